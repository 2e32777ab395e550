package traffic

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dems"
	"dems/client"
)

// verdict is what is known of an operation.
type verdict uint8

const (
	open     verdict = iota // it was not asked for yet
	lost                    // it may have been applied, or may still be
	answered                // there is a definite answer
	failed                  // it was certainly not applied
)

// reply is what came of asking once.
type reply struct {
	verdict verdict
	// result is the answer, as the state machine gave it. Of a read it has the sequence as well at which it holds.
	result dems.Result
	err    error // why there is no answer
	// strange says what is wrong with the answer, or with what came instead of one; "" where nothing is.
	strange string
}

// exchange does an operation under its key, as who asks for it.
func exchange(ctx context.Context, api *client.Client, c *dems.Command) reply {
	as, key := api.As(c.By), client.WithKey(c.Key)
	switch c.Op {
	case dems.AddEvent:
		return replyOf(c, fromAdded)(as.AddEvent(ctx, c.Event, c.Capacity, key))
	case dems.RemoveEvent:
		return replyOf(c, fromRemoved)(as.RemoveEvent(ctx, c.Event, c.Bookings, key))
	case dems.BookEvent:
		return replyOf(c, fromBooked)(as.BookEvent(ctx, c.Customer, c.Event, key))
	case dems.CancelEvent:
		return replyOf(c, fromBooked)(as.CancelEvent(ctx, c.Customer, c.Event, key))
	case dems.SwapEvent:
		return replyOf(c, fromSwapped)(as.SwapEvent(ctx, c.Customer, c.Event, c.OldEvent, key))
	case dems.GetEvent:
		return replyOf(c, fromSingle)(as.GetEvent(ctx, c.Event))
	case dems.GetBookingSchedule:
		return replyOf(c, fromSchedule)(as.GetBookingSchedule(ctx, c.Customer))
	case dems.ListEventAvailability:
		return replyOf(c, fromAvailability)(as.ListEventAvailability(ctx, c.Event.Type))
	}
	return reply{verdict: failed, err: fmt.Errorf("no operation %s", c.Op)}
}

// conversion fills in a result out of what the client returns, and says what is wrong with that.
type conversion[T any] func(c *dems.Command, from T, r *dems.Result) (strange string)

// replyOf returns a function that takes what the client returned for a command.
func replyOf[T any](c *dems.Command, convert conversion[T]) func(T, error) reply {
	return func(from T, err error) reply {
		if err != nil {
			return replyOfError(c, err)
		}
		r := reply{verdict: answered}
		r.strange = convert(c, from, &r.result)
		return r
	}
}

// refusals are the codes by which the rules refuse what the traffic asks for.
var refusals = []dems.Code{
	dems.ForbiddenRole, dems.ForbiddenCity, dems.ForbiddenCustomer, dems.EventNotFound, dems.NotBooked, dems.AlreadyBooked,
	dems.EventFull, dems.MonthlyLimit, dems.CapacityBelowBooked, dems.HasBookings, dems.AmbiguousEventType, dems.SameEvent,
}

// replyOfError returns what an error of the client means.
func replyOfError(c *dems.Command, err error) reply {
	r := reply{verdict: lost, err: err}
	failure, ok := errors.AsType[*client.Error](err)
	switch {
	case !ok:
		r.strange = err.Error()
	case slices.Contains(refusals, failure.Code):
		return reply{verdict: answered, result: dems.Result{Code: failure.Code, Sequence: failure.Sequence}}
	case failure.Code == dems.Unavailable || failure.Code == dems.RateLimited:
		r.verdict = failed
	case failure.Code != dems.Indeterminate && failure.Code != dems.NoMajority:
		// Internal, a success that cannot be read among it, and what refuses a request that nothing is wrong with.
		r.strange = err.Error()
	}
	if !c.Op.Mutates() {
		r.verdict = failed // whether it was read does not matter
	}
	return r
}

// outcomeOf returns the outcome of that name among those that an operation can have.
func outcomeOf(name string, possible ...dems.Outcome) (outcome dems.Outcome, strange string) {
	for _, outcome := range possible {
		if outcome.String() == name {
			return outcome, ""
		}
	}
	return dems.NoOutcome, fmt.Sprintf("the outcome is %.20q", name)
}

// viewOf returns an event with its seats. What contradicts itself is strange; more bookings than seats are not: that is a
// finding of its own.
func viewOf(e client.Event) (view dems.EventView, strange string) {
	view = dems.EventView{Key: e.Key(), Capacity: e.Capacity, Booked: e.Booked}
	switch {
	case e.City != e.ID.City:
		strange = fmt.Sprintf("%s is said to be in %s", e.Key(), e.City)
	case e.Booked <= e.Capacity && e.Available != e.Capacity-e.Booked:
		strange = fmt.Sprintf("%s has %d seats, %d booked and %d available", e.Key(), e.Capacity, e.Booked, e.Available)
	}
	return view, strange
}

// viewOfThe is viewOf for an answer about one event.
func viewOfThe(event dems.EventKey, e client.Event) (view dems.EventView, strange string) {
	view, strange = viewOf(e)
	if view.Key != event {
		strange = fmt.Sprintf("it is about %s, not %s", view.Key, event)
	}
	return view, strange
}

func fromAdded(c *dems.Command, from *client.Added, r *dems.Result) string {
	var strange, stranger string
	r.Sequence, r.Replayed = from.Sequence, from.Replayed
	r.Outcome, strange = outcomeOf(from.Outcome, dems.Created, dems.Updated)
	r.Event, stranger = viewOfThe(c.Event, from.Event)
	return first(strange, stranger)
}

func fromRemoved(c *dems.Command, from *client.Removed, r *dems.Result) string {
	var strange, stranger string
	r.Sequence, r.Replayed = from.Sequence, from.Replayed
	r.Outcome, strange = outcomeOf(from.Outcome, dems.Removed)
	r.Event, stranger = viewOfThe(c.Event, from.Event)
	strange = first(strange, stranger)
	for _, one := range from.Affected {
		affected := dems.Affected{Customer: one.Customer}
		affected.Outcome, stranger = outcomeOf(one.Outcome, dems.Rebooked, dems.Cancelled)
		if one.ID != (dems.EventID{}) {
			affected.Event = dems.EventKey{Type: c.Event.Type, ID: one.ID} // a booking moves within its type
		}
		strange = first(strange, stranger)
		r.Affected = append(r.Affected, affected)
	}
	return strange
}

func fromBooked(c *dems.Command, from *client.Booked, r *dems.Result) string {
	done := dems.Booked
	if c.Op == dems.CancelEvent {
		done = dems.Cancelled
	}
	var strange string
	r.Sequence, r.Replayed = from.Sequence, from.Replayed
	r.Outcome, strange = outcomeOf(from.Outcome, done)
	r.Customer, r.Booking = from.Booking.Customer, dems.EventKey{Type: from.Booking.Type, ID: from.Booking.ID}
	typed := c.Event
	if typed.Type == 0 {
		typed.Type = r.Booking.Type
	}
	if r.Customer != c.Customer || r.Booking != typed {
		strange = fmt.Sprintf("it is about %s for %s", r.Booking, r.Customer)
	}
	return strange
}

func fromSwapped(c *dems.Command, from *client.Swapped, r *dems.Result) string {
	var strange string
	r.Sequence, r.Replayed = from.Sequence, from.Replayed
	r.Outcome, strange = outcomeOf(from.Outcome, dems.Swapped)
	r.Booking, r.Old = dems.EventKey{Type: from.New.Type, ID: from.New.ID}, dems.EventKey{Type: from.Old.Type, ID: from.Old.ID}
	r.Customer = c.Customer // the answer does not repeat it
	if r.Booking != c.Event || r.Old != c.OldEvent {
		strange = fmt.Sprintf("it is about %s for %s", r.Booking, r.Old)
	}
	return strange
}

func fromSingle(c *dems.Command, from *client.Single, r *dems.Result) (strange string) {
	r.Sequence = from.Sequence
	r.Event, strange = viewOfThe(c.Event, from.Event)
	return strange
}

func fromSchedule(c *dems.Command, from *client.Schedule, r *dems.Result) (strange string) {
	r.Sequence, r.Customer = from.Sequence, from.Customer
	for _, one := range from.Bookings {
		booking := dems.EventKey{Type: one.Type, ID: one.ID}
		if one.City != one.ID.City {
			strange = fmt.Sprintf("%s is said to be in %s", booking, one.City)
		}
		r.Bookings = append(r.Bookings, booking)
	}
	if r.Customer != c.Customer {
		strange = fmt.Sprintf("it is the schedule of %s", r.Customer)
	}
	return strange
}

func fromAvailability(c *dems.Command, from *client.Availability, r *dems.Result) (strange string) {
	r.Sequence, r.Type = from.Sequence, from.Type
	for _, one := range from.Events {
		view, stranger := viewOf(one)
		if view.Key.Type != c.Event.Type {
			stranger = fmt.Sprintf("it lists %s", view.Key)
		}
		strange = first(strange, stranger)
		r.Events = append(r.Events, view)
	}
	if r.Type != c.Event.Type {
		strange = fmt.Sprintf("it lists events of the type %q", r.Type.String())
	}
	return strange
}

// first returns the first text that is not empty.
func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
