package history

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dems"
)

// line is an operation as it stands in a file.
type line struct {
	Number  uint64      `json:"number"`
	Group   int         `json:"group"`
	Client  int         `json:"client"`
	Call    seconds     `json:"call"`
	Return  seconds     `json:"return"`
	As      dems.UserID `json:"as,omitzero"`
	Do      object      `json:"do"`
	Outcome string      `json:"outcome"`
	Result  *answer     `json:"result,omitempty"`
	Error   string      `json:"error,omitempty"`
}

// object is an operation with its parameters, as it stands in a batch or a log.
type object struct {
	Op           string         `json:"op"`
	CustomerID   dems.UserID    `json:"customerID,omitzero"`
	EventID      dems.EventID   `json:"eventID,omitzero"`
	EventType    dems.EventType `json:"eventType,omitzero"`
	NewEventID   dems.EventID   `json:"newEventID,omitzero"`
	NewEventType dems.EventType `json:"newEventType,omitzero"`
	OldEventID   dems.EventID   `json:"oldEventID,omitzero"`
	OldEventType dems.EventType `json:"oldEventType,omitzero"`
	Capacity     uint32         `json:"capacity,omitzero"`
	Bookings     string         `json:"bookings,omitempty"`
	Key          string         `json:"key,omitempty"`
}

// answer is a result, with a field for each of its parts.
type answer struct {
	Code       string         `json:"code,omitempty"`
	Outcome    string         `json:"outcome,omitempty"`
	Sequence   uint64         `json:"sequence,omitzero"`
	Replayed   bool           `json:"replayed,omitzero"`
	CustomerID dems.UserID    `json:"customerID,omitzero"`
	EventType  dems.EventType `json:"eventType,omitzero"`
	Event      view           `json:"event,omitzero"`
	Booking    event          `json:"booking,omitzero"`
	Old        event          `json:"old,omitzero"`
	Affected   []affected     `json:"affected,omitempty"`
	Events     []view         `json:"events,omitempty"`
	Bookings   []event        `json:"bookings,omitempty"`
}

type event struct {
	EventID   dems.EventID   `json:"eventID,omitzero"`
	EventType dems.EventType `json:"eventType,omitzero"`
}

type view struct {
	event
	Capacity uint32 `json:"capacity"`
	Booked   uint32 `json:"booked"`
}

type affected struct {
	CustomerID dems.UserID `json:"customerID,omitzero"`
	Outcome    string      `json:"outcome"`
	RebookedTo event       `json:"rebookedTo,omitzero"`
}

func eventOf(key dems.EventKey) event { return event{EventID: key.ID, EventType: key.Type} }

func (e event) key() dems.EventKey { return dems.EventKey{Type: e.EventType, ID: e.EventID} }

func viewOf(v dems.EventView) view {
	return view{event: eventOf(v.Key), Capacity: v.Capacity, Booked: v.Booked}
}

func (v view) view() dems.EventView {
	return dems.EventView{Key: v.key(), Capacity: v.Capacity, Booked: v.Booked}
}

// seconds is a duration that is written in seconds with nine decimals, so that nothing is lost.
type seconds time.Duration

// MarshalJSON implements json.Marshaler.
func (s seconds) MarshalJSON() ([]byte, error) {
	if s < 0 {
		return nil, errors.New("a time is negative")
	}
	return fmt.Appendf(nil, "%d.%09d", s/1e9, s%1e9), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *seconds) UnmarshalJSON(text []byte) error {
	whole, decimals, _ := strings.Cut(string(text), ".")
	nanoseconds, err := strconv.ParseInt(whole+decimals, 10, 64)
	if err != nil || len(decimals) != 9 || nanoseconds < 0 {
		return fmt.Errorf("%.40s is not a time in seconds with nine decimals", text)
	}
	*s = seconds(nanoseconds)
	return nil
}

// objectOf returns what stands in a file for a command.
func objectOf(c *dems.Command) object {
	o := object{Op: c.Op.String(), CustomerID: c.Customer, Capacity: c.Capacity, Key: c.Key}
	switch c.Op {
	case dems.SwapEvent:
		o.NewEventID, o.NewEventType = c.Event.ID, c.Event.Type
		o.OldEventID, o.OldEventType = c.OldEvent.ID, c.OldEvent.Type
	default:
		o.EventID, o.EventType = c.Event.ID, c.Event.Type
	}
	if c.Op == dems.RemoveEvent {
		o.Bookings = c.Bookings.String()
	}
	return o
}

// command is the inverse of objectOf.
func (o *object) command(by dems.UserID) (dems.Command, error) {
	op, ok := dems.ParseOp(o.Op)
	if !ok {
		return dems.Command{}, fmt.Errorf("there is no operation %.40q", o.Op)
	}
	c := dems.Command{
		Op: op, By: by, Key: o.Key, Customer: o.CustomerID, Capacity: o.Capacity,
		Event: dems.EventKey{Type: o.EventType, ID: o.EventID},
	}
	if op == dems.SwapEvent {
		c.Event = dems.EventKey{Type: o.NewEventType, ID: o.NewEventID}
		c.OldEvent = dems.EventKey{Type: o.OldEventType, ID: o.OldEventID}
	}
	if op == dems.RemoveEvent {
		if c.Bookings, ok = dems.ParseBookingPolicy(o.Bookings); !ok {
			return dems.Command{}, fmt.Errorf("bookings is rebook, cancel or refuse, not %.40q", o.Bookings)
		}
	}
	return c, nil
}

// answerOf returns what stands in a file for a result.
func answerOf(r *dems.Result) *answer {
	a := &answer{
		Outcome: r.Outcome.String(), Sequence: r.Sequence, Replayed: r.Replayed, CustomerID: r.Customer, EventType: r.Type,
		Event: viewOf(r.Event), Booking: eventOf(r.Booking), Old: eventOf(r.Old),
		Events: each(r.Events, viewOf), Bookings: each(r.Bookings, eventOf),
		Affected: each(r.Affected, func(one dems.Affected) affected {
			return affected{CustomerID: one.Customer, Outcome: one.Outcome.String(), RebookedTo: eventOf(one.Event)}
		}),
	}
	if r.Code != dems.OK {
		a.Code = r.Code.String()
	}
	return a
}

// result is the inverse of answerOf.
func (a *answer) result() (dems.Result, error) {
	r := dems.Result{
		Sequence: a.Sequence, Replayed: a.Replayed, Customer: a.CustomerID, Type: a.EventType,
		Event: a.Event.view(), Booking: a.Booking.key(), Old: a.Old.key(),
		Events: each(a.Events, view.view), Bookings: each(a.Bookings, event.key),
	}
	var ok bool
	if r.Code, ok = dems.ParseCode(a.Code); !ok && a.Code != "" {
		return r, fmt.Errorf("there is no code %.40q", a.Code)
	}
	if r.Outcome, ok = parseOutcome(a.Outcome); !ok {
		return r, fmt.Errorf("there is no outcome %.40q", a.Outcome)
	}
	for _, one := range a.Affected {
		outcome, ok := parseOutcome(one.Outcome)
		if !ok {
			return r, fmt.Errorf("there is no outcome %.40q", one.Outcome)
		}
		r.Affected = append(r.Affected, dems.Affected{Customer: one.CustomerID, Outcome: outcome, Event: one.RebookedTo.key()})
	}
	return r, nil
}

// parseOutcome is the inverse of dems.Outcome.String.
func parseOutcome(name string) (dems.Outcome, bool) {
	for outcome := dems.NoOutcome; outcome <= dems.Rebooked; outcome++ {
		if outcome.String() == name {
			return outcome, true
		}
	}
	return dems.NoOutcome, false
}

// each applies a function to every element; of none it makes nil.
func each[T, U any](values []T, function func(T) U) []U {
	if len(values) == 0 {
		return nil
	}
	results := make([]U, len(values))
	for i, value := range values {
		results[i] = function(value)
	}
	return results
}

// equalResults tells whether two results are the same. A list that is empty and one that is not there are the same.
func equalResults(a, b *dems.Result) bool {
	return a.Code == b.Code && a.Outcome == b.Outcome && a.Replayed == b.Replayed && a.Sequence == b.Sequence &&
		a.Event == b.Event && a.Booking == b.Booking && a.Old == b.Old && a.Customer == b.Customer && a.Type == b.Type &&
		slices.Equal(a.Affected, b.Affected) && slices.Equal(a.Events, b.Events) && slices.Equal(a.Bookings, b.Bookings)
}

// wellFormed tells whether every identifier of an operation is one, or absent.
func wellFormed(o *Operation) bool {
	events := []dems.EventKey{o.Command.Event, o.Command.OldEvent, o.Result.Event.Key, o.Result.Booking, o.Result.Old, {Type: o.Result.Type}}
	users := []dems.UserID{o.Command.By, o.Command.Customer, o.Result.Customer}
	for _, a := range o.Result.Affected {
		events, users = append(events, a.Event), append(users, a.Customer)
	}
	for _, view := range o.Result.Events {
		events = append(events, view.Key)
	}
	events = append(events, o.Result.Bookings...)
	return !slices.ContainsFunc(events, badEvent) && !slices.ContainsFunc(users, badUser)
}

func badEvent(k dems.EventKey) bool {
	id, ok := dems.ParseEventID(k.ID.String())
	return k.ID != (dems.EventID{}) && (!ok || id != k.ID) || k.Type != 0 && k.Type.String() == ""
}

func badUser(u dems.UserID) bool {
	id, ok := dems.ParseUserID(u.String())
	return u != (dems.UserID{}) && (!ok || id != u)
}
