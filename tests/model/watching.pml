/*
 * One job, watched by one client over a faulty network: does the screen always end up showing the truth?
 *
 *   Worker → store → Hub → slot → Stream → wire → client        the broadcast
 *                     ↑ Beat: compares what the viewer was sent with the store
 *   store ← Poll ← client                                       the watchdog
 *
 * A job is only its seq: 0 at the start, N when it is final. Time is left out: anything that takes time may
 * happen at any moment, or much later. FAULTS faults happen at the worst moments; then everything recovers.
 * (Two by default, so that the search takes seconds. With three it takes longer and finds nothing more.)
 * Left out: several viewers, several jobs (they share only the store), and a store that was restored from
 * a backup (where going back is right).
 *
 * Switches remove a part of the design; test_model.py lists which may go and which may not.
 *   NO_BROADCAST     a change does not wake the hub  NO_STREAM        no stream ever opens
 *   NO_HEARTBEAT     no comparison, and silence cannot be told from a dead stream
 *   NO_POLL          the client never polls          NO_REOPEN        the client leaves reopening to the browser
 *   CLEAR_AFTER_READ the hub clears the dirty mark after the read instead of before
 *   STALE_BELIEVED   an answer is trusted without comparing its seq
 *   FIRST_BELIEVED   the first event of a connection is trusted even if something newer came in meanwhile
 *   ANY_AUDIENCE     a snapshot is also sent to viewers that joined during its read
 *   NOT_ENDED        the client keeps listening after the final state
 */
#ifndef N
#define N 2
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#define NOTHING 99

mtype:link = { Retrying, Open, HalfOpen, Refused };  /* Refused: 4xx, 5xx: the browser gives up permanently */
mtype:poll = { Idle, Asked, Answered };

/* the server */
byte store = 0;            /* committed to disk: survives a kill */
bool up = true;
bool bell = false;         /* the job is dirty: the hub must read the store */
bool reading = false;      /* the hub is between a read and its broadcast */
bool registered = false;   /* there is a viewer */
bool audience = false;     /* and it had joined before the current read began */
byte held = NOTHING;       /* the newest seq handed to the viewer */
byte slot = NOTHING;       /* handed to it but not sent yet; a newer one replaces an older one */

/* the network */
bool net = true;
mtype:link link = Retrying;
byte wire = NOTHING;       /* sent but not arrived yet */
byte faults = FAULTS;

/* the client */
byte shown = 0;            /* what is on the screen */
bool first = false;        /* this connection has not brought an event yet */
byte before = 0;           /* shown when the connection was requested */
bool ended = false;        /* the final state was shown: everything is closed */
mtype:poll poll = Idle;
byte answer = NOTHING;
bool went_back = false;    /* a ghost for the property */

inline display(seq) {
    if :: seq < shown -> went_back = true :: else fi;
    shown = seq;
#ifndef NOT_ENDED
    ended = (shown == N)
#endif
}

inline believe_newer(seq) { if :: seq > shown -> display(seq) :: else fi }

active proctype Worker() {
    do
    :: atomic { up && store < N -> store++;        /* commit … */
#ifndef NO_BROADCAST
        bell = true                                /* … then wake */
#endif
       }
    :: store == N -> break
    od
}

/* Reads for all viewers of the job. A change during the read marks the job again. */
active proctype Hub() {
    byte truth;
    do
    :: atomic { up && bell -> reading = true; audience = registered;
#ifndef CLEAR_AFTER_READ
        bell = false
#endif
       }
       truth = store;
       atomic {
#ifdef CLEAR_AFTER_READ
           bell = false;
#endif
           if
#ifdef ANY_AUDIENCE
           :: reading && registered && (held == NOTHING || truth > held) -> slot = truth; held = truth
#else
           :: reading && audience && (held == NOTHING || truth > held) -> slot = truth; held = truth
#endif
           :: else                                 /* killed meanwhile, no viewer, or nothing new */
           fi;
           reading = false; audience = false; truth = 0
       }
    od
}

#ifndef NO_HEARTBEAT
active proctype Beat() {
    do
    :: atomic { up && registered && held != store && !bell && !reading -> bell = true }
    od
}
#endif

#ifndef NO_STREAM
/* A viewer is registered before its snapshot is read, so that no change is missed in between. */
active proctype Connect() {
    do
    :: atomic { !ended && link == Retrying && net && up ->
        link = Open; wire = NOTHING;
        registered = true; audience = false; held = NOTHING; slot = NOTHING; bell = true;
        first = true; before = shown
       }
    od
}

active proctype Stream() {
    do
    :: atomic { link == Open && net && up && slot != NOTHING && wire == NOTHING ->
        wire = slot; slot = NOTHING }
    :: atomic { !ended && link == Open && net && wire != NOTHING ->
        if
#ifdef FIRST_BELIEVED
        :: first -> display(wire)
#else
        :: first && shown == before -> display(wire)  /* even a lower one: a restored store */
#endif
        :: else -> believe_newer(wire)
        fi;
        first = false;
        wire = NOTHING }
    od
}
#endif

#ifndef NO_REOPEN
/* A refused stream is noticed at once, a half-open one by its missing heartbeats. */
active proctype Reopen() {
    do
    :: atomic { !ended && link == Refused -> link = Retrying }
#ifndef NO_HEARTBEAT
    :: atomic { !ended && link == HalfOpen -> link = Retrying }
#endif
    od
}
#endif

#ifndef NO_POLL
/* At most one poll is in flight. Its answer may take any time to arrive. */
active proctype Poll() {
    do
    :: atomic { !ended && poll == Idle -> poll = Asked }
    :: atomic { poll == Asked && net && up -> answer = store; poll = Answered }
    :: atomic { !ended && poll == Answered && net ->
#ifdef STALE_BELIEVED
        display(answer);
#else
        believe_newer(answer);
#endif
        answer = NOTHING; poll = Idle }
    :: atomic { poll != Idle && !(net && up) -> answer = NOTHING; poll = Idle }  /* timed out */
    od
}
#endif

active proctype Faults() {
    do
    :: atomic { faults > 0 && net -> net = false; faults-- }                     /* a black hole */
    :: atomic { faults > 0 && up -> up = false; faults--;                        /* kill -9 */
        registered = false; held = NOTHING; slot = NOTHING; bell = false; reading = false; wire = NOTHING;
        audience = false;
        if :: link == Open && net -> link = Retrying
           :: link == Open && !net -> link = HalfOpen                            /* its RST is lost */
           :: else fi }
    :: atomic { faults > 0 && link == Open -> link = HalfOpen; wire = NOTHING; faults-- }
    :: atomic { faults > 0 && link == Retrying && net -> link = Refused; faults-- }
    :: atomic { faults > 0 && bell -> bell = false; faults-- }                   /* a broadcast failed */
    :: atomic { faults > 0 && link == Open && net ->                             /* a reset */
        link = Retrying; registered = false; audience = false; held = NOTHING; slot = NOTHING; wire = NOTHING;
        faults-- }
    :: break
    od
}

active proctype Heal() {
    do :: !net -> net = true :: !up -> up = true od
}

/* Runs forever, because Spin judges liveness only on endless runs. */
active proctype Tick() {
    bit side;
    do :: side = 1 - side od
}

ltl truth { <>[] (store == N && shown == store) }
ltl terminal_sticks { [] ((shown == N) -> [] (shown == N)) }
ltl never_ahead { [] (shown <= store) }
ltl never_back { [] !went_back }
