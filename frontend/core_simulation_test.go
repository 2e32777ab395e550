package frontend

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dems"
	"dems/fsm"
)

// The simulation: clients at one or two front ends, on nodes of which at most one at a time does not do what it should,
// while leaders change and messages take their time. Every request has to succeed, and the log tells what it had to be
// answered.

// simulation is one run.
type simulation struct {
	*harness
	random  *rand.Rand // of the faults; clients have their own
	cores   []*Core
	forgets bool         // sessions are lost
	stamp   atomic.Int64 // orders what happens at clients
	ticks   atomic.Int64 // gives every command a time of its own

	mu      sync.Mutex
	history []*simulated
	liars   map[dems.NodeID]bool // nodes that were made to lie
}

// simulated is one request and its answer.
type simulated struct {
	command          dems.Command
	invoked, settled int64 // stamps
	known            int   // length of the log when it was answered
	reply            Reply
	err              error
	point            int // log index after which it took effect
}

const simulationSeeds = 320

func TestSimulation(t *testing.T) {
	const groups = 4
	for group := range groups {
		t.Run(fmt.Sprint("group ", group), func(t *testing.T) {
			t.Parallel()
			for seed := group; seed < simulationSeeds; seed += groups {
				if simulateSeed(t, uint64(seed)); t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

func simulateSeed(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 42))
	window := func(c *Config) { c.BatchesInFlight = 1 + random.IntN(dems.MaxBatchesInFlight) }
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, w: newWorld(t, 3+2*int(seed%2))}
		defer h.stop()
		if slowest := random.IntN(4); slowest > 0 {
			h.w.delayBy(rand.New(rand.NewPCG(seed, 43)), time.Duration(slowest)*time.Millisecond)
		}
		h.core = h.start("fe1", window)
		s := &simulation{harness: h, random: random, cores: []*Core{h.core}, forgets: seed%8 == 7, liars: map[dems.NodeID]bool{}}
		if random.IntN(2) == 0 {
			s.cores = append(s.cores, h.start("fe2", window))
		}
		for _, core := range s.cores {
			h.awaitReady(core)
		}
		var clients sync.WaitGroup
		for number := range 6 {
			clients.Go(func() { s.client(number, rand.New(rand.NewPCG(seed, uint64(1000+number)))) })
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { s.trouble(ctx); close(done) }()
		clients.Wait()
		stop()
		<-done
		s.check()
	})
}

// client sends requests one after the other.
func (s *simulation) client(number int, random *rand.Rand) {
	core := s.cores[number%len(s.cores)]
	var keyed []dems.Command
	for range 10 {
		command := s.command(random)
		if command.Op.Mutates() {
			switch random.IntN(4) {
			case 0:
				command.Key = fmt.Sprint("key", number, len(keyed))
				keyed = append(keyed, command)
			case 1:
				if len(keyed) > 0 { // the same once more, a little later
					again := keyed[random.IntN(len(keyed))]
					again.Time = command.Time
					command = again
				}
			}
		}
		op := &simulated{command: command, invoked: s.stamp.Add(1)}
		op.reply, op.err = s.doAt(core, command)
		op.settled, op.known = s.stamp.Add(1), s.w.length()
		s.mu.Lock()
		s.history = append(s.history, op)
		s.mu.Unlock()
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
	}
}

// command draws a command with a time that no other has.
func (s *simulation) command(random *rand.Rand) dems.Command {
	event, customer := testEvent(random.IntN(4)), testCustomer(random.IntN(4))
	c := dems.Command{Time: time.UnixMilli(s.ticks.Add(1)).UTC(), By: manager, Customer: customer, Event: event}
	switch random.IntN(10) {
	case 0, 1:
		c.Op, c.Customer, c.Capacity = dems.AddEvent, dems.UserID{}, uint32(1+random.IntN(4))
	case 2:
		c.Op, c.Customer, c.Bookings = dems.RemoveEvent, dems.UserID{}, dems.BookingPolicy(random.IntN(3))
	case 3, 4:
		c.Op = dems.BookEvent
	case 5:
		c.Op = dems.CancelEvent
	case 6:
		c.Op, c.OldEvent = dems.SwapEvent, testEvent(random.IntN(4))
	case 7:
		c.Op, c.Customer = dems.GetEvent, dems.UserID{}
	case 8:
		c.Op, c.Customer, c.Event = dems.ListEventAvailability, dems.UserID{}, dems.EventKey{Type: event.Type}
	case 9:
		c.Op, c.Event = dems.GetBookingSchedule, dems.EventKey{}
	}
	return c
}

// trouble has one node at a time do what it should not, and leaders change, until the context ends. Between two troubles
// all is well for long enough that no batch is decided on with two different nodes being wrong.
func (s *simulation) trouble(ctx context.Context) {
	for ctx.Err() == nil {
		n := s.w.nodes[s.random.IntN(len(s.w.nodes))]
		s.w.mu.Lock()
		leads := s.w.leader == n
		s.w.mu.Unlock()
		kind := s.random.IntN(5)
		switch kind {
		case 0, 1:
			into := []reach{dead, hanging, cut, silent}[s.random.IntN(4)]
			if (into == dead || into == hanging) && leads {
				s.w.change(func() { s.w.keepPending = s.random.IntN(2) == 0; s.w.leader = nil })
			}
			s.w.set(n, into)
		case 2:
			s.w.setLate(n, true)
		default:
			s.liars[n.id] = true
			s.w.tell(n, s.lie(n))
		}
		beside := s.alsoWithoutLeader(n, kind)
		s.pause(500)
		s.w.mu.Lock()
		nobody := s.w.leader == nil
		s.w.mu.Unlock()
		if nobody || s.random.IntN(3) == 0 {
			s.electAnother(n)
		}
		if s.forgets && s.random.IntN(2) == 0 {
			s.forgetSessions()
		}
		s.pause(500)
		s.w.change(func() { n.reach, n.late, n.lies = up, false, lies{} })
		if beside != nil {
			s.w.set(beside, up)
		}
		time.Sleep(600 * time.Millisecond)
	}
	if s.w.suspendLeadership(); s.w.leader == nil {
		s.w.elect(s.w.nodes[0])
	}
}

// alsoWithoutLeader has the front ends lose sight of the leader for a second while another node of five lies, so that others are asked
// to hand batches on, and that one among them.
func (s *simulation) alsoWithoutLeader(liar *fakeNode, kind int) *fakeNode {
	s.w.mu.Lock()
	leader := s.w.leader
	s.w.mu.Unlock()
	if kind < 3 || len(s.w.nodes) < 5 || leader == nil || leader == liar || s.random.IntN(2) == 0 {
		return nil
	}
	s.w.set(leader, []reach{cut, silent}[s.random.IntN(2)])
	time.Sleep(time.Second)
	return leader
}

func (s *simulation) pause(most int) {
	time.Sleep(time.Duration(1+s.random.IntN(most)) * time.Millisecond)
}

// electAnother makes a node the leader that is not the one in trouble.
func (s *simulation) electAnother(trouble *fakeNode) {
	for {
		if n := s.w.nodes[s.random.IntN(len(s.w.nodes))]; n != trouble {
			s.w.elect(n)
			return
		}
	}
}

// lie draws something that a wrong node does.
func (s *simulation) lie(n *fakeNode) lies {
	huge := uint64(1) << (40 + s.random.IntN(20))
	answer := func(_ *dems.Query, answer *dems.Answer) {
		answer.Result = dems.AppendResults(nil, []dems.Result{{Code: dems.EventFull}})
	}
	all := []lies{
		{results: alterCapacity(1), answer: answer},
		{bytes: func(reply *dems.BatchReply) { reply.Results = []byte("rubbish") }},
		{bytes: func(reply *dems.BatchReply) { reply.Results = nil }},
		{vote: func(vote *dems.Vote) { vote.Results[3]++ }, answer: answer},
		{vote: func(vote *dems.Vote) { vote.Index = huge }, query: func(reply *dems.QueryReply) { reply.Applied = huge }},
		{results: func(_ int, result *dems.Result) { result.Sequence = huge }},
		{answer: func(_ *dems.Query, answer *dems.Answer) { answer.Version += huge }},
		{answer: func(_ *dems.Query, answer *dems.Answer) { answer.Version = 0 }},
		{query: func(reply *dems.QueryReply) { reply.Answers = nil }},
		{propose: loseAnswer},
		{propose: hangAfter},
		{propose: claims["refuses"]},
		{propose: claims["breaks"]},
		{propose: claims["pretends"]},
		{mute: true, keeps: true},
		{status: func(status *dems.NodeStatus) { status.Leader, status.Term = n.id, huge }},
		{status: func(status *dems.NodeStatus) { status.Configuration, status.Members = huge, status.Members[:1] }},
		{forward: withholds["refuses"]},
		{forward: withholds["hangs"]},
		{forward: withholds["pretends"]},
		{forward: func(ctx context.Context, entry []byte) (dems.BatchReply, error) {
			_, _ = (&fakeReplica{s.w, n.address}).forward(ctx, entry)
			return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.NotApplied}
		}},
		{propose: claims["hangs"], status: func(status *dems.NodeStatus) { status.Leader, status.Term = n.id, huge }},
	}
	return all[s.random.IntN(len(all))]
}

// check compares what the clients got with what the log says.
func (s *simulation) check() {
	for _, n := range s.w.nodes { // dead, hanging, late, cut off or deposed is not wrong
		for _, report := range n.reports {
			if !s.liars[report.Node] {
				s.t.Errorf("reported of a node that never lied: %+v", report)
			}
		}
	}
	answers, applied := s.replay()
	slices.SortFunc(s.history, func(a, b *simulated) int { return int(a.settled - b.settled) })
	for i, op := range s.history {
		floor := 0 // what was over before this began happened before it
		for _, earlier := range s.history[:i] {
			if earlier.settled < op.invoked {
				floor = max(floor, earlier.point)
			}
		}
		switch {
		case !op.command.Op.Mutates():
			s.checkRead(op, floor, answers[describe(op.command)])
		default:
			s.checkWrite(op, floor, applied[op.command.Time.UnixMilli()])
		}
	}
}

// effect is a result and the log index after which it holds.
type effect struct {
	index  int
	result []byte
}

// describe names a query.
func describe(command dems.Command) string {
	command.Time = time.Time{}
	return fmt.Sprint(command)
}

// replay applies the log to a machine of its own. It returns for every query how its answer changed, and for every command,
// by its time, what it had for effects.
func (s *simulation) replay() (answers map[string][]effect, applied map[int64][]effect) {
	machine := fsm.New(dems.DefaultCities())
	answers, applied = map[string][]effect{}, map[int64][]effect{}
	queries := map[string]*dems.Query{}
	for _, op := range s.history {
		if !op.command.Op.Mutates() {
			queries[describe(op.command)] = &dems.Query{Kind: dems.OperationQuery, Command: op.command}
		}
	}
	seen := map[[2]uint64]bool{}
	for i, data := range s.w.log {
		if _, err := machine.Apply(uint64(i+1), data); err != nil {
			s.t.Fatal(err)
		}
		entry, err := dems.DecodeEntry(data)
		if err != nil {
			s.t.Fatal(err)
		}
		batch := [2]uint64{entry.Batch.Session, entry.Batch.Number}
		if _, encoded, _, known := machine.Batch(batch[0], batch[1]); known && !seen[batch] {
			seen[batch] = true
			results, err := dems.DecodeResults(encoded)
			if err != nil || len(results) != len(entry.Batch.Commands) {
				s.t.Fatal(len(results), err)
			}
			for j, command := range entry.Batch.Commands {
				at := command.Time.UnixMilli()
				applied[at] = append(applied[at], effect{i + 1, dems.AppendResult(nil, &results[j])})
			}
		}
		for name, query := range queries {
			answer := machine.Query(query)
			if changes := answers[name]; len(changes) == 0 || !bytes.Equal(changes[len(changes)-1].result, answer.Result) {
				answers[name] = append(changes, effect{i + 1, answer.Result})
			}
		}
	}
	return answers, applied
}

// checkWrite checks that a command was applied once, after what was over before it, and that its answer is the result.
func (s *simulation) checkWrite(op *simulated, floor int, effects []effect) {
	if op.err != nil {
		excused := s.forgets && op.command.Key == "" && dems.CodeOf(op.err) == dems.Indeterminate && len(effects) <= 1
		if !excused {
			s.t.Errorf("%s %q: %v; effects %v", op.command.Op, op.command.Key, op.err, effects)
		}
		return
	}
	if s.forgets && op.command.Key != "" && len(effects) > 0 { // its key protects it where its session does not
		op.point = effects[0].index
		return
	}
	if len(effects) != 1 {
		s.t.Errorf("%+v had %d effects", op.command, len(effects))
		return
	}
	op.point = effects[0].index
	if op.point <= floor || op.point > op.known {
		s.t.Errorf("%s took effect at %d, not between %d and %d", op.command.Op, op.point, floor, op.known)
	}
	if got := dems.AppendResult(nil, &op.reply.Result); !bytes.Equal(got, effects[0].result) {
		s.t.Errorf("%+v: answered %+v, the log says otherwise", op.command, op.reply.Result)
	}
}

// checkRead checks that the answer was right at some moment between the beginning of the request and its end, and not
// before anything that was over before it began.
func (s *simulation) checkRead(op *simulated, floor int, changes []effect) {
	if op.err != nil {
		s.t.Errorf("%s: %v", op.command.Op, op.err)
		return
	}
	op.reply.Result.Sequence = 0
	got := dems.AppendResults(nil, []dems.Result{op.reply.Result})
	for i, change := range changes {
		end := op.known
		if i+1 < len(changes) {
			end = min(end, changes[i+1].index-1)
		}
		if point := max(floor, change.index); point <= end && bytes.Equal(got, change.result) {
			op.point = point
			return
		}
	}
	s.t.Errorf("%+v: answered %+v, which was not so between %d and %d", op.command, op.reply.Result, floor, op.known)
}
