package simulation

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"dems"
)

// Mutation names something that is broken on purpose, to show that the checks see it.
type Mutation string

// The mutations.
const (
	Sound       Mutation = ""              // nothing is broken
	FewerVotes  Mutation = "fewer-votes"   // front ends decide with one vote less than a majority
	FirstAnswer Mutation = "first-answer"  // front ends take the first answer to a read
	LateIsWrong Mutation = "late-is-wrong" // whoever has not voted is taken to have voted as it did last
	Gullible    Mutation = "gullible"      // managers believe accusations without looking into their records
	Blind       Mutation = "blind"         // managers do not compare votes
	Hasty       Mutation = "hasty"         // a node empties itself on one witness's word
	Impatient   Mutation = "impatient"     // the next replacement begins before the last one has ended
	OldLife     Mutation = "old-life"      // an emptied node comes back as the incarnation that was removed
	Unproven    Mutation = "unproven"      // snapshots are kept unless a majority is known to have had another state
	Stranded    Mutation = "stranded"      // front ends believe nobody but the voters that they know
)

// Options say what is played.
type Options struct {
	Seed     uint64
	Mutation Mutation
}

// Outcome is what came of a seed.
type Outcome struct {
	Err   error // the first check that failed; nil: all held
	Count Counts
	lines []line
}

// Counts say how much happened: a simulation in which nothing happens finds nothing.
type Counts struct {
	Events, Entries                         int
	Writes, Reads, Undecided                int // answered rightly; not answered
	Faults, Wrong                           int // wrong: lives that were wrong
	Reports, Accusations, HostileReports    int
	Verdicts, Convictions, Removals, Rejoin int
	Quarantines, Elections, Crashes         int
	Installs, Refusals, HandOvers           int // of snapshots
}

func (c *Counts) add(other *Counts) {
	for _, pair := range []struct{ sum, one *int }{
		{&c.Events, &other.Events}, {&c.Entries, &other.Entries}, {&c.Writes, &other.Writes}, {&c.Reads, &other.Reads},
		{&c.Undecided, &other.Undecided}, {&c.Faults, &other.Faults}, {&c.Wrong, &other.Wrong}, {&c.Reports, &other.Reports},
		{&c.Accusations, &other.Accusations}, {&c.HostileReports, &other.HostileReports}, {&c.Verdicts, &other.Verdicts},
		{&c.Convictions, &other.Convictions}, {&c.Removals, &other.Removals}, {&c.Rejoin, &other.Rejoin},
		{&c.Quarantines, &other.Quarantines}, {&c.Elections, &other.Elections}, {&c.Crashes, &other.Crashes},
		{&c.Installs, &other.Installs}, {&c.Refusals, &other.Refusals}, {&c.HandOvers, &other.HandOvers},
	} {
		*pair.sum += *pair.one
	}
}

// line is a line of the trace, made into text only when somebody wants to read it.
type line struct {
	at        time.Duration
	format    string
	arguments []any
}

func (l *line) writeTo(w io.Writer) {
	fmt.Fprintf(w, "%12s  ", l.at)
	fmt.Fprintf(w, l.format, l.arguments...)
	fmt.Fprintln(w)
}

// Trace writes the last lines of the trace, all of them if last is 0.
func (o *Outcome) Trace(w io.Writer, last int) {
	lines := o.lines
	if last > 0 {
		lines = lines[max(0, len(lines)-last):]
	}
	for i := range lines {
		lines[i].writeTo(w)
	}
}

// Hash returns a hash of the whole trace.
func (o *Outcome) Hash() uint64 {
	sum := fnv.New64a()
	o.Trace(sum, 0)
	return sum.Sum64()
}

// world is one run.
type world struct {
	random   *rand.Rand
	mutation Mutation
	epoch    time.Time // what the clock says at the beginning
	at       time.Duration
	sequence uint64
	queue    schedule
	outcome  Outcome

	profile   profile
	nodes     []*node
	frontEnds []*frontEnd
	log       raftLog
	reference *reference
	lives     map[life]*deeds
	healing   bool // the network is perfect and nobody becomes wrong any more
	ended     bool
}

// profile is what a seed is like.
type profile struct {
	nodes, frontEnds int
	hostile          bool          // the last front end is
	slowest          time.Duration // of messages that are not held up
	lossPerMille     int
	trouble          time.Duration // how long there is any
	recidivist       int           // the number of a node that becomes wrong again and again; -1: none
	alone            bool          // the leader becomes wrong while so many are away that no majority can tell
	operator         bool          // somebody lets nodes out of quarantine, and replaces correct ones
}

// event is something that happens at a time.
type event struct {
	at       time.Duration
	sequence uint64
	do       func()
}

// schedule is a heap of events, by time and then in the order in which they were made.
type schedule []event

func (s schedule) Len() int { return len(s) }
func (s schedule) Less(i, j int) bool {
	return s[i].at < s[j].at || s[i].at == s[j].at && s[i].sequence < s[j].sequence
}
func (s schedule) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(x any)   { *s = append(*s, x.(event)) }
func (s *schedule) Pop() any {
	old := *s
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*s = old[:len(old)-1]
	return last
}

// after has something happen later.
func (w *world) after(delay time.Duration, do func()) {
	w.sequence++
	heap.Push(&w.queue, event{w.at + delay, w.sequence, do})
}

// trace adds a line. Arguments must not change afterwards.
func (w *world) trace(format string, arguments ...any) {
	w.outcome.lines = append(w.outcome.lines, line{w.at, format, arguments})
}

// fail notes the first check that failed; the run ends with it.
func (w *world) fail(format string, arguments ...any) {
	if w.outcome.Err == nil {
		w.outcome.Err = fmt.Errorf(format, arguments...)
		w.trace("FAILED: %s", w.outcome.Err.Error())
	}
}

// now is the time as clocks have it.
func (w *world) now() time.Time { return w.epoch.Add(w.at).Truncate(time.Millisecond) }

func (w *world) chance(percent int) bool { return w.random.IntN(100) < percent }

// between returns a time from one to another.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.random.Int64N(int64(most-least)+1))
}

// delay is how long a message takes: most are quick, some are held up.
func (w *world) delay() time.Duration {
	if !w.healing && w.random.IntN(50) == 0 {
		return w.between(50*time.Millisecond, 400*time.Millisecond)
	}
	return w.between(100*time.Microsecond, w.profile.slowest)
}

// loses tells whether a message is lost.
func (w *world) loses() bool { return !w.healing && w.random.IntN(1000) < w.profile.lossPerMille }

// party is a process: a node's or a front end's.
type party struct {
	world    *world
	name     dems.NodeID
	frontEnd bool
	up       bool
	hangs    bool
	cut      bool // from all other nodes
	deaf     bool // to front ends, too
	starts   int  // counts its starts: what is meant for one process is not for the next
	backlog  []func()
}

// reaches tells whether a message gets from one party to another.
func (p *party) reaches(other *party) bool {
	switch {
	case p == other:
		return true
	case !p.up || !other.up:
		return false
	case p.frontEnd || other.frontEnd:
		return !p.deaf && !other.deaf
	}
	return !p.cut && !other.cut
}

// do does something in a party's process: later while it hangs, never if it has ended.
func (p *party) do(starts int, do func()) {
	switch {
	case !p.up || p.starts != starts:
	case p.hangs:
		p.backlog = append(p.backlog, func() { p.do(starts, do) })
	default:
		do()
	}
}

// after does something later in a party's process.
func (p *party) after(delay time.Duration, do func()) {
	starts := p.starts
	p.world.after(delay, func() { p.do(starts, do) })
}

// resume ends a hang: what has come meanwhile is done, in its order.
func (p *party) resume() {
	p.hangs = false
	backlog := p.backlog
	p.backlog = nil
	for _, do := range backlog {
		do()
	}
}

// send has something done at another party, unless the message is lost. False where the sender can tell at once.
func (p *party) send(to *party, do func()) bool {
	if !p.reaches(to) || p != to && p.world.loses() {
		return false
	}
	starts := to.starts
	delay := time.Duration(0)
	if p != to {
		delay = p.world.delay()
	}
	p.world.after(delay, func() {
		if p == to || p.reaches(to) || !p.up && to.up { // who has sent it may have ended since
			to.do(starts, do)
		}
	})
	return true
}

// call asks a node something. Serve runs there and returns the answer, false if it refuses. Done runs here, once: with the
// answer or, with false, when it was refused or the time is up.
func call[T any](from *party, to *node, timeout time.Duration, serve func() (T, bool), done func(T, bool)) {
	finished := false
	finish := func(answer T, ok bool) {
		if !finished {
			finished = true
			done(answer, ok)
		}
	}
	var none T
	from.after(timeout, func() { finish(none, false) })
	callLater(from, to, func(reply func(T, bool)) {
		answer, ok := serve()
		reply(answer, ok)
	}, finish)
}

// callLater is call for answers that take their time, and without an end to the waiting.
func callLater[T any](from *party, to *node, serve func(reply func(T, bool)), done func(T, bool)) {
	starts := from.starts
	from.send(&to.party, func() {
		if from != &to.party && to.fault.kind == mute {
			return
		}
		serve(func(answer T, ok bool) {
			to.send(from, func() { from.do(starts, func() { done(answer, ok) }) })
		})
	})
}

// play has events happen until the run has ended.
func (w *world) play() {
	const mostEvents = 200_000 // far more than any seed has: one that goes round in circles is a failure
	for w.outcome.Err == nil && !w.ended && len(w.queue) > 0 {
		next := heap.Pop(&w.queue).(event)
		w.at = next.at
		next.do()
		if w.outcome.Count.Events++; w.outcome.Count.Events > mostEvents {
			w.fail("more than %d events", mostEvents)
		}
	}
	if w.outcome.Err == nil && !w.ended {
		w.fail("nothing happens any more, and it is not over")
	}
}

// Run plays a seed.
func Run(options Options) *Outcome {
	w := newWorld(options)
	w.play()
	w.outcome.Count.Entries = len(w.log.entries)
	for _, d := range w.lives {
		if d.isWrong() {
			w.outcome.Count.Wrong++
		}
	}
	return &w.outcome
}

func newWorld(options Options) *world {
	w := &world{
		random: rand.New(rand.NewPCG(options.Seed, 0x64656d73)), mutation: options.Mutation, lives: make(map[life]*deeds),
		epoch: time.UnixMilli(1_800_000_000_000).UTC(), reference: newReference(),
	}
	w.profile = profile{
		nodes: 3 + 2*w.random.IntN(2), frontEnds: 1 + w.random.IntN(3), slowest: w.between(time.Millisecond, 15*time.Millisecond),
		lossPerMille: []int{0, 2, 10}[w.random.IntN(3)], trouble: w.between(time.Second, 6*time.Second), recidivist: -1,
		operator: w.chance(30),
	}
	w.profile.hostile = w.profile.frontEnds > 1 && w.chance(60)
	if w.chance(15) {
		w.profile.recidivist = w.random.IntN(w.profile.nodes)
		w.profile.trouble = 15 * time.Second
	}
	if w.profile.recidivist < 0 && w.chance(8) {
		w.profile.alone = true
		w.profile.trouble = 10 * time.Second
		w.after(w.between(300*time.Millisecond, time.Second), w.leaveAlone)
	}
	w.trace("seed %d: %d nodes, %d front ends, hostile %t, messages take up to %s, %d of 1000 are lost, trouble for %s, recidivist %d",
		options.Seed, w.profile.nodes, w.profile.frontEnds, w.profile.hostile, w.profile.slowest, w.profile.lossPerMille,
		w.profile.trouble, w.profile.recidivist)
	var members []dems.Member
	for number := range w.profile.nodes {
		n := newNode(w, number)
		w.nodes = append(w.nodes, n)
		members = append(members, dems.Member{ID: n.name, Incarnation: 1, Suffrage: dems.Voter})
	}
	w.append(entry{members: members})
	for _, n := range w.nodes {
		n.stored = 1
		n.start()
	}
	w.elect(w.nodes[w.random.IntN(len(w.nodes))])
	for number := range w.profile.frontEnds {
		w.frontEnds = append(w.frontEnds, newFrontEnd(w, number))
	}
	for _, f := range w.frontEnds {
		f.open()
	}
	w.watch()
	w.makeTrouble()
	return w
}

// node returns the node with an ID, nil if there is none.
func (w *world) node(id dems.NodeID) *node {
	at := slices.IndexFunc(w.nodes, func(n *node) bool { return n.name == id })
	if at < 0 {
		return nil
	}
	return w.nodes[at]
}
