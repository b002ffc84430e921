/*
 * One job of two items, worked on by two runners that may pause for any time, or die: what the model of
 * watching takes for granted of the store. An item ends once, nobody writes after its item went to another
 * runner, the counts add up, seq rises, and a finished job is never written to.
 *
 * A runner that is paused is one that Spin does not let run, which it may do for as long as it likes. The
 * store's clock may find a lease run out at any moment (Rescue), whether its runner is dead, paused or only
 * slow. Each claim is an attempt; an item that loses its last one has failed.
 *
 * Switches take a rule of decide() away:
 *   NO_LEASE_CHECK   a command is taken whatever its lease number is
 *   NO_FINAL_CHECK   an item or a job that ended may change again
 *   NO_RESCUE        nobody takes back what a dead runner holds
 *   TWO_WRITERS      a report is read, decided and written with others in between
 */
#define ITEMS 2
#define ATTEMPTS 3

mtype:state = { Pending, Running, Succeeded, Failed, Cancelled };

typedef Item {
    mtype:state state = Pending;
    byte lease = 0;        /* raised by every claim, so it counts the attempts, too */
    bool held = false;     /* until the lease runs out or the item ends */
    byte holder = 0;       /* ghosts: the design goes by the number alone */
    bool ended = false
}
Item item[ITEMS];
byte waiting = ITEMS;
byte leased = 0;
byte over = 0;             /* items that ended */
bool stopping = false;     /* cancelling is a wish */
bool done = false;
byte seq = 0;
bool dead[3];              /* runners are 1 and 2 */

/* ghosts */
bool ended_twice = false;
bool intruded = false;
bool disturbed = false;
bool fell = false;

#ifdef NO_LEASE_CHECK
#define LEASE_COUNTS true
#else
#define LEASE_COUNTS (item[mine_i].held && item[mine_i].lease == mine)
#endif
#ifdef NO_FINAL_CHECK
#define MAY_CHANGE true
#else
#define MAY_CHANGE (!done && (item[mine_i].state == Pending || item[mine_i].state == Running))
#endif
#define ACCEPTED (LEASE_COUNTS && MAY_CHANGE)
#define CLAIMABLE(i) (!done && !stopping && item[i].state == Pending && !item[i].held)

/* A change that viewers see, and the seq that it gets. */
inline change(new_seq) {
    if :: done -> disturbed = true :: else fi;
    if :: new_seq <= seq -> fell = true :: else fi;
    seq = new_seq
}

inline settle() {
    if :: waiting == 0 && leased == 0 -> done = true :: else fi
}

inline finish(i, how) {
    change(seq + 1);
    if :: item[i].ended -> ended_twice = true :: else -> item[i].ended = true; over++ fi;
    if :: item[i].held -> item[i].held = false; leased-- :: else fi;
    item[i].state = how; item[i].holder = 0;
    settle()
}

inline claim(i) {
    mine_i = i; item[i].lease++; mine = item[i].lease;
    item[i].held = true; item[i].holder = me;
    waiting--; leased++
}

/* Whose item is it? The model knows; the store has only the number. */
inline look_who_writes() {
    if :: item[mine_i].holder != me -> intruded = true :: else fi
}

proctype Runner(byte me) {
    byte mine_i = 0, mine = 0;                     /* the item in hand and its lease; 0: none */
#ifdef TWO_WRITERS
    byte read = 0;
#endif
    do
    :: atomic { !dead[me] && mine == 0 && CLAIMABLE(0) -> claim(0) }
    :: atomic { !dead[me] && mine == 0 && CLAIMABLE(1) -> claim(1) }

    :: atomic { !dead[me] && mine != 0 && ACCEPTED && item[mine_i].state == Pending ->
        look_who_writes();                         /* its first report; the others only repeat it */
#ifdef TWO_WRITERS
        read = seq }
        atomic { change(read + 1); read = 0;
#else
        change(seq + 1);
#endif
        item[mine_i].state = Running }

    :: atomic { !dead[me] && mine != 0 && ACCEPTED ->
        look_who_writes();
        if
        :: true -> finish(mine_i, Succeeded)
        :: true -> finish(mine_i, Failed)
        :: stopping -> finish(mine_i, Cancelled)
        fi;
        mine = 0; mine_i = 0 }
    :: atomic { !dead[me] && mine != 0 && !ACCEPTED -> mine = 0; mine_i = 0 }  /* refused: drop the work */

    :: dead[me] || (mine == 0 && (done || stopping)) -> break
    od
}

#ifndef NO_RESCUE
/* A lease ran out. What it held waits again, or ends where no attempt is left or a stop was asked for. */
inline rescue(i) {
    if
    :: stopping -> finish(i, Cancelled)
    :: !stopping && item[i].lease == ATTEMPTS -> finish(i, Failed)
    :: !stopping && item[i].lease < ATTEMPTS ->
        change(seq + 1);
        item[i].state = Pending; item[i].held = false; item[i].holder = 0;
        leased--; waiting++
    fi
}

active proctype Rescue() {
    do
    :: atomic { item[0].held -> rescue(0) }
    :: atomic { item[1].held -> rescue(1) }
    :: done -> break
    od
}
#endif

/* Somebody may cancel, once, at any time: what waits ends at once, what runs when it has stopped. */
active proctype Person() {
    byte i;
    if
    :: atomic { !done -> stopping = true;
        for (i : 0 .. ITEMS - 1) {
            if
            :: item[i].state == Pending && !item[i].held -> waiting--; finish(i, Cancelled)
            :: else
            fi
        }
        i = 0 }
    :: true
    fi
}

/* One of the runners may be killed, at any time. */
active proctype Killer() {
    if :: dead[1] = true :: true fi
}

/* Always something to do: Spin would take a run that stops for one that need not be judged. */
active proctype Tick() {
    bit side;
    do :: side = 1 - side od
}

init { atomic { run Runner(1); run Runner(2) } }

ltl ends { <>[] (done && over == ITEMS) }
ltl one_row_each { [] !ended_twice }
ltl no_write_after_takeover { [] !intruded }
ltl quiet_when_done { [] (!disturbed && (done -> [] done)) }
ltl seq_rises { [] !fell }
ltl counts_add_up { [] (waiting + leased + over == ITEMS) }
