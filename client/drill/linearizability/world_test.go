package linearizability

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"dems"
	"dems/client/drill/history"
	"dems/fsm"
)

// server is a correct system: the real state machine, one command after the other.
type server struct {
	t       testing.TB
	machine *fsm.Machine
	batches uint64
}

const testSession = 1

func newServer(t testing.TB) *server {
	s := &server{t: t, machine: fsm.New(dems.DefaultCities())}
	s.apply(&dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{ID: "fe1", Session: testSession}})
	return s
}

func (s *server) apply(entry *dems.Entry) []byte {
	applied, err := s.machine.Apply(s.machine.Index()+1, dems.AppendEntry(nil, entry))
	if err != nil || applied.Refused != "" {
		s.t.Fatalf("%v %s", err, applied.Refused)
	}
	return applied.Results
}

// do does a command: in a batch of its own if it mutates, else as a query.
func (s *server) do(command dems.Command) dems.Result {
	var encoded []byte
	if command.Op.Mutates() {
		s.batches++
		encoded = s.apply(&dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
			Session: testSession, Number: s.batches, Commands: []dems.Command{command},
		}})
	} else {
		encoded = s.machine.Query(&dems.Query{Kind: dems.OperationQuery, Command: command}).Result
	}
	results, err := dems.DecodeResults(encoded)
	if err != nil || len(results) != 1 {
		s.t.Fatalf("%d results, %v", len(results), err)
	}
	if !command.Op.Mutates() {
		results[0].Sequence = s.machine.Index()
	}
	return results[0]
}

// world is what the operations of one group are about. It is small, so that everything happens often.
type world struct {
	random    *rand.Rand
	events    []dems.EventKey
	customers []dems.UserID
}

var (
	cities       = []dems.City{{'M', 'T', 'L'}, {'O', 'T', 'W'}, {'T', 'O', 'R'}}
	slots        = []dems.Slot{dems.Morning, dems.Afternoon, dems.Evening}
	testPolicies = []dems.BookingPolicy{dems.Rebook, dems.Rebook, dems.CancelBookings, dems.Refuse}
)

// newWorld returns a world of 15 events in two months, some of them with one ID, and of 12 customers. Worlds of different
// numbers, up to 800, share nothing but types and cities.
func newWorld(number int, random *rand.Rand) *world {
	w := &world{random: random}
	for i := range 15 {
		w.events = append(w.events, dems.EventKey{Type: dems.Seminar, ID: dems.EventID{
			City: cities[i%3], Slot: slots[i/3%3],
			Date: dems.Date{Year: uint8(number % 100), Month: uint8(1 + number/100%4*3 + i%2), Day: uint8(1 + number/400*4 + i/5)},
		}})
	}
	w.events[3].ID, w.events[3].Type = w.events[0].ID, dems.Conference
	w.events[5].ID, w.events[5].Type = w.events[2].ID, dems.TradeShow
	for i := range 12 {
		w.customers = append(w.customers, dems.UserID{City: cities[i%3], Role: dems.Customer, Number: uint16(number*12 + i)})
	}
	return w
}

func pick[T any](random *rand.Rand, values []T) T { return values[random.IntN(len(values))] }

// command returns a random command whose syntax is right.
func (w *world) command() dems.Command {
	c := dems.Command{
		Op:    pick(w.random, []dems.Op{1, 1, 2, 3, 4, 4, 4, 4, 4, 4, 5, 5, 6, 6, 7, 7, 7, 8}),
		Event: pick(w.random, w.events),
	}
	if c.Op.ForCustomer() {
		c.Customer = pick(w.random, w.customers)
		c.By = c.Customer
	} else {
		c.By = dems.UserID{City: c.Event.ID.City, Role: dems.Manager, Number: 1}
	}
	switch w.random.IntN(20) {
	case 0:
		c.By = pick(w.random, w.customers)
	case 1:
		c.By = dems.UserID{City: pick(w.random, cities), Role: dems.Manager, Number: 2}
	}
	switch c.Op {
	case dems.AddEvent:
		c.Capacity = 1 + w.random.Uint32N(4)
	case dems.RemoveEvent:
		c.Bookings = pick(w.random, testPolicies)
	case dems.ListEventAvailability:
		c.Event.ID = dems.EventID{}
	case dems.GetBookingSchedule:
		c.Event = dems.EventKey{}
	case dems.CancelEvent:
		if w.random.IntN(3) == 0 {
			c.Event.Type = 0
		}
	case dems.SwapEvent:
		c.OldEvent = pick(w.random, w.events)
	}
	return c
}

// simulation is clients that ask a correct server at the same time. What it records is linearizable.
type simulation struct {
	*world
	server     *server
	group      int
	now        time.Duration
	clients    []*flight // by client; nil where it is idle
	floating   []dems.Command
	operations []history.Operation
	// Of a thousand operations so many are lost, of which half are applied later or never, and so many fail.
	lost, failed int
}

// flight is an operation on its way.
type flight struct {
	operation int
	applied   bool
	result    dems.Result
}

func newSimulation(t testing.TB, group, clients int, seed uint64) *simulation {
	random := rand.New(rand.NewPCG(seed, uint64(group)))
	return &simulation{world: newWorld(group, random), server: newServer(t), group: group, clients: make([]*flight, clients)}
}

// run lets the clients do operations until so many have been recorded, and waits for all.
func (s *simulation) run(operations int) {
	for range s.events { // something to book
		s.step(dems.Command{
			Op: dems.AddEvent, By: dems.UserID{City: s.events[0].ID.City, Role: dems.Manager}, Event: s.events[0], Capacity: 3,
		})
		s.events = append(s.events[1:], s.events[0])
	}
	for len(s.operations) < operations {
		s.tick()
	}
	s.wait()
}

// wait ends what is on its way.
func (s *simulation) wait() {
	for client, f := range s.clients {
		for f != nil && s.clients[client] != nil {
			s.advance(client)
		}
	}
}

// tick lets some client go on, or something that was lost take effect.
func (s *simulation) tick() {
	if len(s.floating) > 0 && s.random.IntN(10*len(s.clients)) == 0 {
		at := s.random.IntN(len(s.floating))
		s.server.do(s.floating[at])
		s.floating = slices.Delete(s.floating, at, at+1)
		return
	}
	client := s.random.IntN(len(s.clients))
	if s.clients[client] == nil {
		s.send(client, s.command())
		return
	}
	s.advance(client)
}

// step does one operation from a client that is idle, from its call to its return.
func (s *simulation) step(command dems.Command) dems.Result {
	client := slices.Index(s.clients, nil)
	s.send(client, command)
	f := s.clients[client]
	for s.clients[client] != nil {
		s.advance(client)
	}
	return f.result
}

func (s *simulation) time() time.Duration {
	s.now += time.Duration(1 + s.random.IntN(1000))
	return s.now
}

func (s *simulation) send(client int, command dems.Command) {
	s.operations = append(s.operations, history.Operation{
		Number: uint64(len(s.operations)) + 1, Group: s.group, Client: client, Call: s.time(), Command: command,
	})
	s.clients[client] = &flight{operation: len(s.operations) - 1}
}

func (s *simulation) advance(client int) {
	f := s.clients[client]
	o := &s.operations[f.operation]
	if f.applied {
		o.Outcome, o.Result, o.Return = history.Answered, f.result, s.time()
		s.clients[client] = nil
		return
	}
	switch dice := s.random.IntN(1000); {
	case dice < s.failed:
		o.Outcome, o.Return = history.Failed, s.time()
		s.clients[client] = nil
	case dice < s.failed+s.lost:
		o.Outcome, o.Return = history.Unknown, s.time()
		s.clients[client] = nil
		switch s.random.IntN(4) {
		case 0, 1:
			s.server.do(o.Command)
		case 2:
			s.floating = append(s.floating, o.Command)
		}
	default:
		f.result, f.applied = s.server.do(o.Command), true
	}
}
