/*
 * One job of two items and two runners, which may pause for any time, or die. This checks what watching.pml
 * assumes of the store: an item ends once, no runner writes after its item went to another, the counts add
 * up, seq rises, and a finished job is never written to.
 *
 * A paused runner is one that Spin does not schedule, for as long as it likes. A lease may expire at any
 * moment (Rescue), whether its runner is dead, paused or only slow. Each claim is an attempt; an item that
 * loses its last attempt has failed.
 *
 * Switches remove a rule of decide():
 *   NO_LEASE_CHECK   a command is accepted whatever its lease number
 *   NO_FINAL_CHECK   an item or a job that has ended may change again
 *   NO_RESCUE        items of a dead runner are never taken back
 *   TWO_WRITERS      other writes may come between the read and the write of a report
 */
#define ITEMS 2
#define ATTEMPTS 3

mtype:state = { Pending, Running, Succeeded, Failed, Cancelled };

typedef Item {
    mtype:state state = Pending;
    byte lease = 0;        /* raised by every claim, so it also counts attempts */
    bool held = false;     /* until the lease expires or the item ends */
    byte holder = 0;       /* ghosts: the design only has the lease number */
    bool ended = false
}
Item item[ITEMS];
byte waiting = ITEMS;
byte leased = 0;
byte over = 0;             /* items that have ended */
bool stopping = false;     /* a cancel was requested */
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

/* A change that viewers see, with its seq. */
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

/* Whose item is it? The model knows; the store only has the lease number. */
inline look_who_writes() {
    if :: item[mine_i].holder != me -> intruded = true :: else fi
}

proctype Runner(byte me) {
    byte mine_i = 0, mine = 0;                     /* the current item and its lease; 0: none */
#ifdef TWO_WRITERS
    byte read = 0;
#endif
    do
    :: atomic { !dead[me] && mine == 0 && CLAIMABLE(0) -> claim(0) }
    :: atomic { !dead[me] && mine == 0 && CLAIMABLE(1) -> claim(1) }

    :: atomic { !dead[me] && mine != 0 && ACCEPTED && item[mine_i].state == Pending ->
        look_who_writes();                         /* the first report; later ones change nothing here */
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
/* A lease has expired. Its item waits again, or ends if no attempt is left or a cancel was requested. */
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

/* A user may cancel once, at any time: waiting items end at once, running ones when they have stopped. */
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

/* Runs forever, because Spin judges liveness only on endless runs. */
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
