package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"dems"
	"dems/fsm"
)

// Machine is the bare state machine: no network, no log, no REST. After every operation it checks the machine's
// invariants and its digest. It is not safe for concurrent use.
type Machine struct {
	machine *fsm.Machine
	session uint64
	batches uint64
	time    time.Time
}

// NewMachine returns a machine with the default cities and an open session.
func NewMachine() (*Machine, error) {
	m := &Machine{machine: fsm.New(dems.DefaultCities()), session: 1, time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	_, err := m.apply(dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{
		ID: "fe1", Address: "http://127.0.0.1:8080", Version: "test", Time: m.time, Session: m.session,
	}})
	return m, err
}

// apply applies an entry and checks what has to hold after each.
func (m *Machine) apply(entry dems.Entry) (fsm.Applied, error) {
	applied, err := m.machine.Apply(m.machine.Index()+1, dems.AppendEntry(nil, &entry))
	if err != nil {
		return applied, err
	}
	if applied.Refused != "" {
		return applied, errors.New(applied.Refused)
	}
	if err := m.machine.CheckInvariants(); err != nil {
		return applied, err
	}
	if digest := m.machine.Digest(); digest != m.machine.Recompute() || digest != applied.StateDigest {
		return applied, fmt.Errorf("digest %s, recomputed %s", digest, m.machine.Recompute())
	}
	return applied, nil
}

// Do implements Target.
func (m *Machine) Do(_ context.Context, as string, operation Operation) (Answer, error) {
	command, err := m.machine.Cities().Parse(requestOf(as, operation))
	if err != nil {
		return Answer{Body: map[string]any{"code": dems.CodeOf(err).String()}}, nil
	}
	m.time = m.time.Add(time.Second)
	command.Time = m.time
	result, err := m.execute(command)
	if err != nil {
		return Answer{}, err
	}
	body, err := render(command.Op, &result)
	return Answer{Body: body, Replayed: result.Replayed}, err
}

// execute has the machine do a command: in a batch of its own if it mutates, else as a query.
func (m *Machine) execute(command dems.Command) (dems.Result, error) {
	var encoded []byte
	if command.Op.Mutates() {
		m.batches++
		applied, err := m.apply(dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
			Session: m.session, Number: m.batches, Commands: []dems.Command{command},
		}})
		if err != nil {
			return dems.Result{}, err
		}
		encoded = applied.Results
	} else {
		encoded = m.machine.Query(&dems.Query{Kind: dems.OperationQuery, Command: command}).Result
	}
	results, err := dems.DecodeResults(encoded)
	if err == nil && len(results) != 1 {
		err = fmt.Errorf("%d results for one command", len(results))
	}
	if err != nil {
		return dems.Result{}, err
	}
	return results[0], nil
}

// requestOf copies the parameters of an operation into a request.
func requestOf(as string, o Operation) dems.Request {
	_, keyGiven := o["key"]
	return dems.Request{
		Op: o.Text("op"), By: as, CustomerID: o.Text("customerID"), EventID: o.Text("eventID"), EventType: o.Text("eventType"),
		NewEventID: o.Text("newEventID"), NewEventType: o.Text("newEventType"),
		OldEventID: o.Text("oldEventID"), OldEventType: o.Text("oldEventType"),
		Capacity: o.Text("capacity"), Bookings: o.Text("bookings"), Key: o.Text("key"), KeyGiven: keyGiven,
	}
}

// render returns a result as the body that REST gives it. It is written independently of the front end, so that each
// is checked against the cases and not against the other.
func render(op dems.Op, r *dems.Result) (any, error) {
	type object map[string]any
	event := func(key dems.EventKey) object { return object{"eventID": key.ID, "eventType": key.Type} }
	place := func(key dems.EventKey) object {
		return object{"eventID": key.ID, "eventType": key.Type, "city": key.ID.City}
	}
	view := func(e dems.EventView) object {
		body := place(e.Key)
		body["capacity"], body["booked"], body["available"] = e.Capacity, e.Booked, e.Available()
		return body
	}
	body := object{}
	switch {
	case r.Code != dems.OK:
		body["code"] = r.Code.String()
	case op == dems.ListEventAvailability:
		body["eventType"], body["events"] = r.Type, each(r.Events, view)
	case op == dems.GetBookingSchedule:
		body["customerID"], body["bookings"] = r.Customer, each(r.Bookings, place)
	case op == dems.GetEvent:
		body["event"] = view(r.Event)
	case op == dems.AddEvent:
		body["outcome"], body["event"] = r.Outcome, view(r.Event)
	case op == dems.RemoveEvent:
		body["outcome"], body["event"] = r.Outcome, view(r.Event)
		body["affected"] = each(r.Affected, func(a dems.Affected) object {
			one := object{"customerID": a.Customer, "outcome": a.Outcome}
			if a.Outcome == dems.Rebooked {
				one["eventID"] = a.Event.ID
			}
			return one
		})
	case op == dems.SwapEvent:
		body["outcome"], body["old"], body["new"] = r.Outcome, event(r.Old), event(r.Booking)
	default:
		booking := event(r.Booking)
		booking["customerID"] = r.Customer
		body["outcome"], body["booking"] = r.Outcome, booking
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	var decoded any
	err = decode(data, &decoded)
	return decoded, err
}

// each applies a function to every element; the result is never nil.
func each[T, U any](values []T, function func(T) U) []U {
	results := make([]U, 0, len(values))
	for _, value := range values {
		results = append(results, function(value))
	}
	return results
}
