/*
 * One job, watched by one client over a network that breaks: does the screen always end in the truth?
 *
 *   Worker → store → Hub → slot → Stream → wire → client        the broadcast
 *                     ↑ Beat: compares what the viewer was sent with the store
 *   store ← Poll ← client                                       the watchdog
 *
 * A job is its seq: 0 at the start, N when it is final. Time is left out: whatever takes time may happen
 * at any moment, or much later. Faults come at the worst moments, FAULTS of them; then everything heals.
 * (Two by default, so that the search takes seconds. With three it takes longer and finds nothing else.)
 * Not in here: several viewers, several jobs (they share nothing but the store), and a store that was
 * restored from a backup (where going back is right).
 *
 * Switches take one part of the design away; test_model.py lists which may go and which may not.
 *   NO_BROADCAST     a change wakes nobody          NO_STREAM         no stream ever opens
 *   NO_HEARTBEAT     no comparison, and silence cannot be told from a dead stream
 *   NO_POLL          the client never asks          NO_REOPEN         it leaves reopening to the browser
 *   CLEAR_AFTER_READ the hub clears the dirty mark after the read instead of before
 *   STALE_BELIEVED   an answer is believed without comparing its seq
 *   FIRST_BELIEVED   the first event of a connection is believed, also when newer news came in meanwhile
 *   ANY_AUDIENCE     what was read is also handed to viewers that joined during the read
 *   NOT_ENDED        the client goes on listening after the final state
 */
#ifndef N
#define N 2
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#define NOTHING 99

mtype:link = { Retrying, Open, HalfOpen, Refused };  /* Refused: 4xx, 5xx: the browser gives up for good */
mtype:poll = { Idle, Asked, Answered };

/* the server */
byte store = 0;            /* committed to the disk: outlives a kill */
bool up = true;
bool bell = false;         /* the job is dirty: the store must be asked */
bool reading = false;      /* it is between its read and its handing out */
bool registered = false;   /* there is a viewer */
bool audience = false;     /* and it was there before the read that is under way began */
byte held = NOTHING;       /* the newest seq it was handed */
byte slot = NOTHING;       /* handed to it and not sent yet; the newer replaces the older */

/* the way */
bool net = true;
mtype:link link = Retrying;
byte wire = NOTHING;       /* sent and not arrived yet */
byte faults = FAULTS;

/* the client */
byte shown = 0;            /* what is on the screen */
bool first = false;        /* this connection has brought no event yet */
byte before = 0;           /* what was shown when it was asked for */
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
           :: else                                 /* killed meanwhile, nobody there, or nothing new */
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
/* A viewer is registered first and read for afterwards, so that nothing falls between. */
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
/* At most one in flight. Its answer may travel for as long as it likes. */
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
    :: atomic { faults > 0 && link == Open && net ->                             /* reset on the way */
        link = Retrying; registered = false; audience = false; held = NOTHING; slot = NOTHING; wire = NOTHING;
        faults-- }
    :: break
    od
}

active proctype Heal() {
    do :: !net -> net = true :: !up -> up = true od
}

/* Always something to do: Spin would take a run that stops for one that need not be judged. */
active proctype Tick() {
    bit side;
    do :: side = 1 - side od
}

ltl truth { <>[] (store == N && shown == store) }
ltl terminal_sticks { [] ((shown == N) -> [] (shown == N)) }
ltl never_ahead { [] (shown <= store) }
ltl never_back { [] !went_back }
