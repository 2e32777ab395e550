package linearizability

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"dems"
	"dems/internal/conformance"
)

// ordered returns a result as the model gives it: the model knows no log.
func ordered(r dems.Result) dems.Result {
	r.Sequence = 0
	return r
}

// TestModelAgainstStateMachine gives random commands to the model and to the real state machine, group by group.
func TestModelAgainstStateMachine(t *testing.T) {
	const groups, each = 170, 600
	codes, outcomes := map[dems.Code]int{}, map[dems.Outcome]int{}
	for group := range groups {
		w, machine, s := newWorld(group, rand.New(rand.NewPCG(1, uint64(group)))), newServer(t), &state{}
		for i := range each {
			command := w.command()
			before, shown := s, s.String()
			next, got := s.do(&command)
			want := ordered(machine.do(command))
			if !sameAnswer(&got, &want) {
				t.Fatalf("group %d, command %d: %s\nin %s\ngives %s, not %s", group, i, describeCommand(&command), s, describeResult(&got), describeResult(&want))
			}
			if before.String() != shown {
				t.Fatalf("%s changed the state before it from %s to %s", describeCommand(&command), shown, before)
			}
			if changes := got.Code == dems.OK && command.Op.Mutates(); !changes && next != s {
				t.Fatalf("%s, answered %s, makes another state", describeCommand(&command), describeResult(&got))
			}
			s = next
			codes[got.Code]++
			outcomes[got.Outcome]++
			for _, a := range got.Affected {
				outcomes[a.Outcome]++
			}
		}
	}
	for _, code := range []dems.Code{
		dems.OK, dems.ForbiddenRole, dems.ForbiddenCity, dems.ForbiddenCustomer, dems.EventNotFound, dems.NotBooked, dems.AlreadyBooked,
		dems.EventFull, dems.MonthlyLimit, dems.CapacityBelowBooked, dems.HasBookings, dems.AmbiguousEventType, dems.SameEvent,
	} {
		if codes[code] < 5 {
			t.Errorf("%s happened %d times", code, codes[code])
		}
	}
	for outcome := dems.Created; outcome <= dems.Rebooked; outcome++ {
		if outcomes[outcome] < 100 {
			t.Errorf("%s happened %d times", outcome, outcomes[outcome])
		}
	}
}

// TestHash shows that a state has the same hash however it came about, and hardly ever that of another one.
func TestHash(t *testing.T) {
	w, s := newWorld(0, rand.New(rand.NewPCG(2, 0))), &state{}
	seen := map[uint64]string{}
	for range 20_000 {
		command := w.command()
		s, _ = s.do(&command)
		again := &state{}
		for _, e := range s.events {
			again = again.with(newEvent(e.key, e.capacity, e.bookings))
		}
		if again.hash != s.hash || !again.equal(s) {
			t.Fatalf("made anew, %s has the hash %x, not %x", s, again.hash, s.hash)
		}
		text := s.String()
		if other, found := seen[s.hash]; found && other != text {
			t.Fatalf("%s and %s have one hash", text, other)
		}
		seen[s.hash] = text
	}
	if len(seen) < 2500 {
		t.Errorf("only %d states", len(seen))
	}
}

// TestEqual shows that states differ in whatever a client can find out.
func TestEqual(t *testing.T) {
	w := newWorld(0, rand.New(rand.NewPCG(3, 0)))
	base := (&state{}).with(newEvent(w.events[0], 3, w.customers[:2]))
	for name, other := range map[string]*state{
		"no event":      {},
		"another event": (&state{}).with(newEvent(w.events[1], 3, w.customers[:2])),
		"one more":      base.with(newEvent(w.events[1], 3, nil)),
		"capacity":      (&state{}).with(newEvent(w.events[0], 4, w.customers[:2])),
		"bookings":      (&state{}).with(newEvent(w.events[0], 3, w.customers[:1])),
		"order":         (&state{}).with(newEvent(w.events[0], 3, []dems.UserID{w.customers[1], w.customers[0]})),
	} {
		if base.equal(other) || other.equal(base) {
			t.Errorf("%s: %s equals %s", name, base, other)
		}
		// Equal hashes must not be taken for equal states.
		forged := *other
		forged.hash = base.hash
		if base.equal(&forged) {
			t.Errorf("%s: %s equals %s, judged by the hash alone", name, base, other)
		}
	}
}

// modelTarget lets the conformance cases run through the model.
type modelTarget struct{ state *state }

func (m *modelTarget) Do(_ context.Context, as string, operation conformance.Operation) (conformance.Answer, error) {
	_, keyGiven := operation["key"]
	command, err := dems.DefaultCities().Parse(dems.Request{
		Op: operation.Text("op"), By: as, CustomerID: operation.Text("customerID"),
		EventID: operation.Text("eventID"), EventType: operation.Text("eventType"),
		NewEventID: operation.Text("newEventID"), NewEventType: operation.Text("newEventType"),
		OldEventID: operation.Text("oldEventID"), OldEventType: operation.Text("oldEventType"),
		Capacity: operation.Text("capacity"), Bookings: operation.Text("bookings"), Key: operation.Text("key"), KeyGiven: keyGiven,
	})
	if err != nil {
		return conformance.Answer{Body: map[string]any{"code": dems.CodeOf(err).String()}}, nil
	}
	var result dems.Result
	m.state, result = m.state.do(&command)
	return conformance.Answer{Body: body(command.Op, &result)}, nil
}

// TestConformance runs the cases that say what the operations do. Those that ask again under a key are left out: to the model
// an operation with all its attempts is one.
func TestConformance(t *testing.T) {
	cases, err := conformance.Cases()
	if err != nil {
		t.Fatal(err)
	}
	run := 0
	for _, c := range cases {
		if usesKeyTwice(c) {
			continue
		}
		run++
		target := &modelTarget{state: &state{}}
		for i, step := range c.Steps {
			answer, err := target.Do(t.Context(), step.As, step.Do)
			if err != nil {
				t.Fatal(err)
			}
			if problem := step.Want.Mismatch(answer); problem != "" {
				t.Errorf("%s, step %d: %v by %s: %s", c.Name, i+1, step.Do, step.As, problem)
			}
		}
	}
	if left := len(cases) - run; run < 30 || left > len(cases)/4 {
		t.Errorf("%d cases were run, %d left out", run, left)
	}
}

func usesKeyTwice(c conformance.Case) bool {
	seen := map[string]bool{}
	for _, step := range c.Steps {
		if key := step.Do.Text("key"); key != "" {
			if seen[key] {
				return true
			}
			seen[key] = true
		}
	}
	return false
}

// body returns a result as the cases have it.
func body(op dems.Op, r *dems.Result) any {
	type object = map[string]any
	number := func(n uint32) json.Number { return json.Number(fmt.Sprint(n)) }
	event := func(key dems.EventKey) object {
		return object{"eventID": key.ID.String(), "eventType": key.Type.String(), "city": key.ID.City.String()}
	}
	view := func(v dems.EventView) object {
		o := event(v.Key)
		o["capacity"], o["booked"], o["available"] = number(v.Capacity), number(v.Booked), number(v.Available())
		return o
	}
	b := object{"outcome": r.Outcome.String()}
	switch {
	case r.Code != dems.OK:
		return object{"code": r.Code.String()}
	case op == dems.ListEventAvailability:
		b["eventType"], b["events"] = r.Type.String(), all(r.Events, func(v dems.EventView) any { return view(v) })
	case op == dems.GetBookingSchedule:
		b["customerID"], b["bookings"] = r.Customer.String(), all(r.Bookings, func(k dems.EventKey) any { return event(k) })
	case op == dems.SwapEvent:
		b["old"], b["new"] = event(r.Old), event(r.Booking)
	case !reflect.ValueOf(r.Event).IsZero():
		b["event"] = view(r.Event)
		b["affected"] = all(r.Affected, func(a dems.Affected) any {
			o := object{"customerID": a.Customer.String(), "outcome": a.Outcome.String()}
			if a.Outcome == dems.Rebooked {
				o["eventID"] = a.Event.ID.String()
			}
			return o
		})
	default:
		booking := event(r.Booking)
		booking["customerID"] = r.Customer.String()
		b["booking"] = booking
	}
	return b
}

func all[T any](values []T, function func(T) any) []any {
	results := make([]any, 0, len(values))
	for _, value := range values {
		results = append(results, function(value))
	}
	return results
}
