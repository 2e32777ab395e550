package linearizability

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"dems"
	"dems/client/drill/history"
)

// story is operations on events and by customers that the rest of the group leaves alone, told while the rest goes on.
type story struct {
	*simulation
	wrong bool // the server does what it must not do
}

// The story's customers live in Toronto; its events are in Montreal and Ottawa, in one month.
func (s *story) customer(number int) dems.UserID {
	return dems.UserID{City: cities[2], Role: dems.Customer, Number: uint16(9000 + number)}
}

func (s *story) event(city, number int) dems.EventKey {
	id := s.events[0].ID
	id.City, id.Date.Month, id.Date.Day, id.Slot = cities[city], 12, uint8(1+number), dems.Morning
	return dems.EventKey{Type: []dems.EventType{dems.TradeShow, dems.Conference}[city], ID: id}
}

// noise lets the rest of the group go on for a while.
func (s *story) noise() {
	for range 20 {
		s.tick()
	}
}

// idle returns a client that has nothing to do.
func (s *story) idle() int {
	for !slices.Contains(s.clients, nil) {
		s.tick()
	}
	return slices.Index(s.clients, nil)
}

// do does an operation among the others. If change is given and the server does wrong, the answer is not the right one.
func (s *story) do(command dems.Command, change func(*dems.Result)) {
	s.noise()
	s.idle()
	at := len(s.operations)
	s.step(command)
	if s.wrong && change != nil {
		change(&s.operations[at].Result)
	}
}

// pretend has an operation answered, which the server does only if it does right.
func (s *story) pretend(command dems.Command, answer dems.Result) {
	if !s.wrong {
		s.do(command, nil)
		return
	}
	client := s.idle()
	s.send(client, command)
	s.clients[client].applied, s.clients[client].result = true, answer
	s.advance(client)
}

func (s *story) add(event dems.EventKey, capacity uint32, change func(*dems.Result)) {
	s.do(dems.Command{Op: dems.AddEvent, By: manager(event), Event: event, Capacity: capacity}, change)
}

func (s *story) remove(event dems.EventKey, policy dems.BookingPolicy, change func(*dems.Result)) {
	s.do(dems.Command{Op: dems.RemoveEvent, By: manager(event), Event: event, Bookings: policy}, change)
}

func (s *story) book(customer int, event dems.EventKey, change func(*dems.Result)) {
	s.do(s.booking(customer, event), change)
}

func (s *story) booking(customer int, event dems.EventKey) dems.Command {
	return dems.Command{Op: dems.BookEvent, By: s.customer(customer), Customer: s.customer(customer), Event: event}
}

func (s *story) schedule(customer int) dems.Command {
	return dems.Command{Op: dems.GetBookingSchedule, By: s.customer(customer), Customer: s.customer(customer)}
}

func manager(event dems.EventKey) dems.UserID {
	return dems.UserID{City: event.ID.City, Role: dems.Manager, Number: 3}
}

// booked is the answer to a booking.
func booked(c dems.Command) dems.Result {
	return dems.Result{Outcome: dems.Booked, Booking: c.Event, Customer: c.Customer}
}

// stories are what a server can do wrong. The last operation of each is the one that cannot be explained, unless a list that
// somebody else reads in the meantime shows it first.
var stories = map[string]func(s *story){
	"a lost write": func(s *story) {
		s.add(s.event(0, 0), 2, nil)
		s.pretend(s.booking(0, s.event(0, 0)), booked(s.booking(0, s.event(0, 0))))
		s.do(s.schedule(0), nil)
	},
	"a write undone": func(s *story) {
		s.add(s.event(0, 0), 2, nil)
		s.book(0, s.event(0, 0), nil)
		if s.wrong {
			cancel := s.booking(0, s.event(0, 0))
			cancel.Op = dems.CancelEvent
			s.server.do(cancel)
		}
		s.do(s.booking(1, s.event(0, 0)), nil)
		s.do(dems.Command{Op: dems.GetEvent, By: manager(s.event(0, 0)), Event: s.event(0, 0)}, nil)
	},
	"a stale read": func(s *story) {
		s.add(s.event(0, 0), 2, nil)
		s.book(0, s.event(0, 0), nil)
		s.do(s.schedule(0), func(r *dems.Result) { r.Bookings = nil })
	},
	"a stale list": func(s *story) {
		s.add(s.event(0, 0), 2, nil)
		s.add(s.event(0, 1), 2, nil)
		s.do(dems.Command{Op: dems.ListEventAvailability, By: manager(s.event(0, 0)), Event: dems.EventKey{Type: dems.TradeShow}},
			func(r *dems.Result) {
				r.Events = slices.DeleteFunc(r.Events, func(v dems.EventView) bool { return v.Key == s.event(0, 1) })
			})
	},
	"applied twice": func(s *story) {
		s.add(s.event(0, 0), 2, nil)
		s.book(0, s.event(0, 0), func(r *dems.Result) { *r = refused(dems.AlreadyBooked) })
	},
	"oversold": func(s *story) {
		s.add(s.event(0, 0), 1, nil)
		s.book(0, s.event(0, 0), nil)
		s.book(1, s.event(0, 0), func(r *dems.Result) { *r = booked(s.booking(1, s.event(0, 0))) })
	},
	"a limit of each city": func(s *story) {
		for city := range 2 {
			for number := range 2 {
				s.add(s.event(city, number), 5, nil)
			}
		}
		s.book(0, s.event(0, 0), nil)
		s.book(0, s.event(1, 0), nil)
		s.book(0, s.event(0, 1), nil)
		s.book(0, s.event(1, 1), func(r *dems.Result) { *r = booked(s.booking(0, s.event(1, 1))) })
	},
	"a limit that forgets": func(s *story) {
		for number := range 3 {
			s.add(s.event(0, number), 5, nil)
			s.book(0, s.event(0, number), nil)
		}
		s.remove(s.event(0, 0), dems.CancelBookings, nil)
		s.add(s.event(1, 0), 5, nil)
		s.book(0, s.event(1, 0), func(r *dems.Result) { *r = refused(dems.MonthlyLimit) })
	},
	"rebooked to the wrong event": func(s *story) {
		for number := range 3 {
			s.add(s.event(0, number), 1, nil)
		}
		s.book(0, s.event(0, 0), nil)
		s.remove(s.event(0, 0), dems.Rebook, func(r *dems.Result) { r.Affected[0].Event = s.event(0, 2) })
	},
	"not rebooked": func(s *story) {
		s.add(s.event(0, 0), 1, nil)
		s.add(s.event(0, 1), 1, nil)
		s.book(0, s.event(0, 0), nil)
		s.remove(s.event(0, 0), dems.Rebook, func(r *dems.Result) {
			r.Affected[0] = dems.Affected{Customer: r.Affected[0].Customer, Outcome: dems.Cancelled}
		})
	},
	"rebooked out of turn": func(s *story) {
		s.add(s.event(0, 0), 2, nil)
		s.book(0, s.event(0, 0), nil)
		s.book(1, s.event(0, 0), nil)
		s.remove(s.event(0, 0), dems.Rebook, func(r *dems.Result) { slices.Reverse(r.Affected) })
	},
	"a capacity that does not hold": func(s *story) {
		s.add(s.event(0, 0), 2, nil)
		s.book(0, s.event(0, 0), nil)
		s.book(1, s.event(0, 0), nil)
		s.add(s.event(0, 0), 1, func(r *dems.Result) {
			*r = dems.Result{Outcome: dems.Updated, Event: dems.EventView{Key: s.event(0, 0), Capacity: 1, Booked: 2}}
		})
	},
	"reads that go backwards": func(s *story) {
		s.add(s.event(0, 0), 2, nil)
		s.idle()
		writer := slices.Index(s.clients, nil)
		s.send(writer, s.booking(0, s.event(0, 0)))
		f := s.clients[writer]
		f.applied, f.result = true, s.server.do(s.booking(0, s.event(0, 0)))
		for range 2 { // two other clients read while the write is on its way
			reader := slices.Index(s.clients, nil)
			for reader < 0 {
				busy := (writer + 1) % len(s.clients)
				s.advance(busy)
				reader = slices.Index(s.clients, nil)
			}
			s.step(s.schedule(0))
		}
		if s.wrong {
			s.operations[len(s.operations)-1].Result.Bookings = nil
		}
	},
	"failed, and applied": func(s *story) {
		s.add(s.event(0, 0), 2, nil)
		s.book(0, s.event(0, 0), nil)
		if s.wrong {
			s.operations[len(s.operations)-1].Outcome = history.Failed
		}
		s.do(s.schedule(0), nil)
	},
}

// tell tells a story among the noise of six clients, of whose operations some are lost before, and returns the last operation
// of it.
func tell(t *testing.T, name string, seed uint64, wrong bool) ([]history.Operation, history.Operation) {
	t.Helper()
	s := &story{simulation: newSimulation(t, 7, 6, seed), wrong: wrong}
	s.lost, s.failed = 5, 10
	s.run(100)
	s.lost, s.failed = 0, 0
	stories[name](s)
	last := len(s.operations) - 1
	for range 100 {
		s.tick()
	}
	s.wait()
	return s.operations, s.operations[last]
}

// TestViolations shows that each wrong of a server is found, and named, and that without it nothing is.
func TestViolations(t *testing.T) {
	for name := range stories {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(3) {
				right, _ := tell(t, name, seed, false)
				if result := Check(t.Context(), right, Options{}); len(result.Violations)+len(result.Undecided) > 0 {
					t.Fatalf("seed %d: nothing is wrong, but %v %v", seed, result.Violations, result.Undecided)
				}
				wrong, last := tell(t, name, seed, true)
				result := Check(t.Context(), wrong, Options{})
				if len(result.Violations) != 1 || len(result.Undecided) > 0 {
					t.Fatalf("seed %d: violations %v, undecided %v", seed, result.Violations, result.Undecided)
				}
				v := result.Violations[0]
				listed := v.Unplaced.Command.Op == dems.ListEventAvailability && v.Unplaced.Number < last.Number
				if v.Group != 7 || v.Unplaced.Number != last.Number && !listed {
					t.Errorf("seed %d: group %d; instead of %s:\n%s", seed, v.Group, describe(&last), v)
				}
				if seed == 0 {
					t.Log(v)
				}
			}
		})
	}
}

// TestUnknownMayExplain shows that an operation whose outcome is unknown is believed to be done, or not, as it fits; and done
// once, and not before it was asked for.
func TestUnknownMayExplain(t *testing.T) {
	s := &story{simulation: newSimulation(t, 7, 3, 1)}
	s.add(s.event(0, 0), 2, nil)
	s.wait()
	full, none := []dems.EventKey{s.event(0, 0)}, []dems.EventKey(nil)
	for name, test := range map[string]struct {
		before  []dems.EventKey // what the customer's schedule is before the booking is sent
		outcome history.Outcome // of the booking
		reads   [][]dems.EventKey
		want    verdict
	}{
		"never":                  {none, history.Unknown, [][]dems.EventKey{none, none}, explained},
		"at once":                {none, history.Unknown, [][]dems.EventKey{full, full}, explained},
		"later":                  {none, history.Unknown, [][]dems.EventKey{none, full}, explained},
		"and undone":             {none, history.Unknown, [][]dems.EventKey{full, none}, unexplained},
		"before it was sent":     {full, history.Unknown, [][]dems.EventKey{full}, unexplained},
		"failed, and not seen":   {none, history.Failed, [][]dems.EventKey{none}, explained},
		"failed, and seen":       {none, history.Failed, [][]dems.EventKey{full}, unexplained},
		"done, and seen":         {none, history.Answered, [][]dems.EventKey{full}, explained},
		"done, and not seen":     {none, history.Answered, [][]dems.EventKey{none}, unexplained},
		"an unknown read is not": {none, history.Failed, nil, explained},
	} {
		t.Run(name, func(t *testing.T) {
			operations := slices.Clone(s.operations)
			record := func(command dems.Command, outcome history.Outcome, result dems.Result) {
				s.now++
				o := history.Operation{
					Number: uint64(len(operations)) + 1, Group: 7, Call: s.now, Return: s.now, Command: command, Outcome: outcome, Result: result,
				}
				operations = append(operations, o)
			}
			read := func(bookings []dems.EventKey) {
				record(s.schedule(0), history.Answered, dems.Result{Customer: s.customer(0), Bookings: bookings})
			}
			read(test.before)
			record(s.booking(0, s.event(0, 0)), test.outcome, dems.Result{})
			if test.outcome == history.Answered {
				operations[len(operations)-1].Result = booked(s.booking(0, s.event(0, 0)))
			}
			for _, bookings := range test.reads {
				read(bookings)
			}
			record(s.schedule(0), history.Unknown, dems.Result{})
			if got := (group{7, operations}).check(t.Context(), Options{}.withDefaults()); got.verdict != test.want {
				t.Errorf("the verdict is %d, want %d:\n%s", got.verdict, test.want, text(operations))
			}
		})
	}
}

// TestOrderOfTheLogIsAHint shows that sequences that are wrong do not make a history wrong whose answers can be explained.
func TestOrderOfTheLogIsAHint(t *testing.T) {
	operations := simulate(t, 0, 4, 200, 0, 3)
	for i := range operations {
		operations[i].Result.Sequence = uint64(1000 - i)
	}
	if result := Check(t.Context(), operations, Options{}); len(result.Violations)+len(result.Undecided) > 0 {
		t.Errorf("%v %v", result.Violations, result.Undecided)
	}
	if len(CheckSequences(operations)) == 0 {
		t.Error("but nobody sees that the sequences are wrong")
	}
}

// TestAnsweredLate shows that operations whose answer came only when they were asked for again, long after, cost little time,
// right or wrong: the log has their order. If no order along the log is right and nobody can try all others, that is told.
func TestAnsweredLate(t *testing.T) {
	for seed := range uint64(3) {
		s := newSimulation(t, 0, 8, seed)
		s.run(300)
		for i := range s.operations {
			if o := &s.operations[i]; o.Command.Op.Mutates() && o.Number%10 == 0 {
				o.Return = s.now + 1
			}
		}
		if result := Check(t.Context(), s.operations, Options{}); len(result.Violations)+len(result.Undecided) > 0 {
			t.Errorf("seed %d: %v %v", seed, result.Violations, result.Undecided)
		}
		s.now += 2
		s.step(dems.Command{Op: dems.GetEvent, By: manager(s.events[0]), Event: s.events[0]})
		s.operations[len(s.operations)-1].Result = refused(dems.Internal)
		result := Check(t.Context(), s.operations, Options{MemoryBytes: 16 << 20})
		if len(result.Violations) != 1 || len(result.Undecided) != 0 {
			t.Fatalf("seed %d: violations %v, undecided %v", seed, result.Violations, result.Undecided)
		}
		v := result.Violations[0]
		if !v.AlongLog || v.Unplaced.Number != uint64(len(s.operations)) || !strings.HasPrefix(v.String(), "No order along the log explains the first 3") {
			t.Errorf("seed %d: %t %s", seed, v.AlongLog, v)
		}
	}
}

// TestManyViolations shows that every violation is told, but only some are explained.
func TestManyViolations(t *testing.T) {
	var all []history.Operation
	for group := range MostExplained + 5 {
		operations := simulate(t, group, 2, 30, 0, 1)
		last := &operations[len(operations)-1]
		last.Outcome, last.Result = history.Answered, refused(dems.Internal)
		all = append(all, operations...)
	}
	result := Check(t.Context(), all, Options{})
	if len(result.Violations) != MostExplained+5 {
		t.Fatalf("%d violations", len(result.Violations))
	}
	for i, v := range result.Violations {
		if v.Group != i || (v.Explanation != nil) != (i < MostExplained) || (v.Operations != nil) != (i < MostExplained) {
			t.Errorf("violation %d: %+v", i, v)
		}
		if want := fmt.Sprintf("group %d.", i); !strings.Contains(v.String(), want) {
			t.Errorf("violation %d: %s", i, v)
		}
	}
}

func TestWriteHTML(t *testing.T) {
	wrong, last := tell(t, "oversold", 1, true)
	v := Check(t.Context(), wrong, Options{}).Violations[0]
	var page bytes.Buffer
	if err := v.WriteHTML(t.Context(), &page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<html", describeCommand(&last.Command), "event_full"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if err := v.WriteHTML(t.Context(), failingWriter{}); !errors.Is(err, errDiskFull) {
		t.Errorf("a page that cannot be written: %v", err)
	}
}

var errDiskFull = errors.New("disk full")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errDiskFull }
