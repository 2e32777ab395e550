package simulation

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"dems"
	"dems/frontend/voting"
)

// How many customers and events there are: few, so that what is done to them matters to others.
const (
	customers = 3
	events    = 4
)

func testEvent(number int) dems.EventKey {
	return dems.EventKey{Type: dems.EventTypes[number%2], ID: dems.EventID{
		City: dems.DefaultCities()[number%3].City, Slot: dems.Morning, Date: dems.Date{Year: 27, Month: 5, Day: uint8(1 + number)},
	}}
}

func testCustomer(number int) dems.UserID {
	return dems.UserID{City: dems.DefaultCities()[number%3].City, Role: dems.Customer, Number: uint16(number)}
}

func aManager(city dems.City) dems.UserID {
	return dems.UserID{City: city, Role: dems.Manager, Number: 1}
}

// allQueries returns every read that clients make.
func allQueries() []dems.Query {
	var all []dems.Query
	for number := range events {
		key := testEvent(number)
		all = append(all, dems.Query{Kind: dems.OperationQuery, Command: dems.Command{
			Op: dems.GetEvent, By: aManager(key.ID.City), Event: key,
		}})
	}
	for number := range customers {
		who := testCustomer(number)
		all = append(all, dems.Query{Kind: dems.OperationQuery, Command: dems.Command{Op: dems.GetBookingSchedule, By: who, Customer: who}})
	}
	key := testEvent(0)
	return append(all, dems.Query{Kind: dems.OperationQuery, Command: dems.Command{
		Op: dems.ListEventAvailability, By: aManager(key.ID.City), Event: dems.EventKey{Type: key.Type},
	}})
}

// client does one thing after the other.
func (f *frontEnd) client() {
	w := f.world
	next := func() {
		pause := w.between(5*time.Millisecond, 120*time.Millisecond)
		if w.profile.recidivist >= 0 || w.healing {
			pause *= 3
		}
		f.after(pause, f.client)
	}
	switch {
	case f.quiet:
	case len(f.voters) == 0:
		next()
	case w.chance(35):
		f.read(w.random.IntN(len(w.reference.queries)), next)
	default:
		commands := make([]dems.Command, 1+w.random.IntN(3))
		for i := range commands {
			commands[i] = f.command()
		}
		f.write(commands, nil, func(bool, []dems.Result) { next() })
	}
}

// resumeClients lets the clients in again.
func (f *frontEnd) resumeClients() {
	f.quiet = false
	for range clients {
		f.client()
	}
}

// command draws a command.
func (f *frontEnd) command() dems.Command {
	w := f.world
	event, customer := testEvent(w.random.IntN(events)), testCustomer(w.random.IntN(customers))
	c := dems.Command{Time: w.now(), By: customer, Customer: customer, Event: event}
	switch w.random.IntN(10) {
	case 0, 1, 2:
		c.Op, c.By, c.Customer, c.Capacity = dems.AddEvent, aManager(event.ID.City), dems.UserID{}, uint32(2+w.random.IntN(4))
	case 3:
		c.Op, c.By, c.Customer = dems.RemoveEvent, aManager(event.ID.City), dems.UserID{}
	case 4, 5, 6:
		c.Op = dems.BookEvent
	case 7, 8:
		c.Op = dems.CancelEvent
	case 9:
		c.Op, c.OldEvent = dems.SwapEvent, testEvent(w.random.IntN(events))
	}
	if w.chance(20) {
		c.Key = fmt.Sprint("key", w.random.IntN(40))
	}
	return c
}

// reading is one read.
type reading struct {
	query   int
	floor   uint64 // what was answered before it began
	started time.Duration
	answers []nodeAnswer
	rounds  int
	decided bool
	right   dems.Answer
	done    func()
}

type nodeAnswer struct {
	node    *node
	life    life
	answer  dems.Answer
	meeting uint64
}

// read asks all voters, and answers with what a majority says of one version.
func (f *frontEnd) read(query int, done func()) {
	w := f.world
	q := &reading{query: query, floor: w.reference.highest, started: w.at, done: done}
	if w.reference.stale > 0 { // one that is stale and one that is late are not told from two that are right by any other front end
		q.floor = f.acknowledged
	}
	for _, voter := range f.voters {
		f.question(q, w.node(voter.Node), f.acknowledged)
	}
	f.after(readPatience, func() { f.undecided(q) })
}

// question asks one node.
func (f *frontEnd) question(q *reading, n *node, minimum uint64) {
	query := f.world.reference.queries[q.query]
	ask := func(reply func(dems.QueryReply, bool)) { n.query(minimum, &query, reply) }
	callLater(&f.party, n, ask, func(reply dems.QueryReply, ok bool) {
		if !ok || reply.Node != n.name || !f.voters.Counts(n.name, reply.Incarnation) {
			return
		}
		got := nodeAnswer{node: n, life: life{n.name, reply.Incarnation}, answer: reply.Answers[0]}
		if q.decided {
			f.judgeRead(q, &got)
			return
		}
		if at := slices.IndexFunc(q.answers, func(a nodeAnswer) bool { return a.node == n }); at >= 0 {
			q.answers[at] = got
		} else {
			q.answers = append(q.answers, got)
		}
		f.tally(q)
	})
}

// tally looks for a majority, and asks those again that are late.
func (f *frontEnd) tally(q *reading) {
	majority := f.electors().Majority()
	if f.world.mutation == FirstAnswer {
		majority = 1
	}
	for i := range q.answers {
		candidate, agreeing := &q.answers[i].answer, 0
		for j := range q.answers {
			if other := &q.answers[j].answer; other.Version == candidate.Version && bytes.Equal(other.Result, candidate.Result) {
				agreeing++
			}
		}
		if agreeing >= majority {
			f.answer(q, *candidate)
			return
		}
	}
	if len(q.answers) < majority || q.rounds >= 3 {
		return
	}
	versions := make([]uint64, len(q.answers))
	for i := range q.answers {
		versions[i] = q.answers[i].answer.Version
	}
	slices.Sort(versions)
	slices.Reverse(versions)
	doubtful := max(0, len(f.voters)-majority-(len(f.voters)-len(q.answers)))
	version := versions[min(doubtful, len(versions)-1)]
	asked := false
	for i := range q.answers {
		if a := &q.answers[i]; a.answer.Version < version && a.meeting != version {
			a.meeting, asked = version, true
			f.question(q, a.node, version)
		}
	}
	if asked {
		q.rounds++
	}
}

// answer ends a read.
func (f *frontEnd) answer(q *reading, right dems.Answer) {
	w := f.world
	q.decided, q.right = true, right
	f.acknowledged = max(f.acknowledged, right.Version)
	w.checkRead(f, q.query, &right, q.floor)
	w.outcome.Count.Reads++
	f.lastRead = max(f.lastRead, q.started)
	for i := range q.answers {
		f.judgeRead(q, &q.answers[i])
	}
	q.done()
}

// judgeRead compares an answer with the majority's. One of another version says nothing.
func (f *frontEnd) judgeRead(q *reading, got *nodeAnswer) {
	switch {
	case q.right.Result == nil || got.answer.Version != q.right.Version || !f.voters.Counts(got.life.node, got.life.incarnation):
		return
	case bytes.Equal(got.answer.Result, q.right.Result):
		f.strikes.Right(got.life.node, got.life.incarnation)
		return
	}
	f.report(f.strikes.Wrong(got.life.node, got.life.incarnation, voting.Evidence{Expected: "a", Answered: "b"}, f.world.now()))
	if f.probing[got.node.number] {
		return
	}
	f.probing[got.node.number] = true
	command := f.world.reference.queries[q.query].Command
	command.Time = f.world.now()
	f.write([]dems.Command{command}, got.node, func(bool, []dems.Result) { f.probing[got.node.number] = false })
}

// undecided orders a read through the log that no majority has answered.
func (f *frontEnd) undecided(q *reading) {
	if q.decided {
		return
	}
	q.decided = true
	command := f.world.reference.queries[q.query].Command
	command.Time = f.world.now()
	f.write([]dems.Command{command}, nil, func(ok bool, _ []dems.Result) {
		if ok {
			f.lastRead = max(f.lastRead, q.started)
		}
		q.done()
	})
}
