package linearizability

import (
	"fmt"
	"strings"

	"dems"
	"dems/client/drill/history"
)

// describe returns an operation as people read it, without a full stop.
func describe(o *history.Operation) string {
	text := fmt.Sprintf("operation %d of client %d (%s), sent at %.6f s, ", o.Number, o.Client, describeCommand(&o.Command), o.Call.Seconds())
	switch o.Outcome {
	case history.Answered:
		text += fmt.Sprintf("answered at %.6f s", o.Return.Seconds())
		if o.Result.Sequence != 0 {
			text += fmt.Sprintf(", sequence %d", o.Result.Sequence)
		}
		return text + ": " + describeResult(&o.Result)
	case history.Failed:
		return text + fmt.Sprintf("failed at %.6f s: %s", o.Return.Seconds(), o.Error)
	}
	return text + "whose outcome is unknown"
}

// describeCommand returns for example "TORM0001 asks bookEvent seminar/TORM100519 for MTLC0001".
func describeCommand(c *dems.Command) string {
	text := c.By.String() + " asks " + c.Op.String()
	switch c.Op {
	case dems.GetBookingSchedule:
	case dems.ListEventAvailability:
		text += " " + c.Event.Type.String()
	case dems.SwapEvent:
		text += fmt.Sprintf(" %s for %s", c.OldEvent, c.Event)
	case dems.CancelEvent:
		text += " " + strings.TrimPrefix(c.Event.String(), "/")
	default:
		text += " " + c.Event.String()
	}
	switch {
	case c.Op == dems.AddEvent:
		text += fmt.Sprintf(" with capacity %d", c.Capacity)
	case c.Op == dems.RemoveEvent:
		text += fmt.Sprintf(" with bookings=%s", c.Bookings)
	case c.Op.ForCustomer() && c.By != c.Customer:
		text += fmt.Sprintf(" on behalf of %s", c.Customer)
	}
	return text
}

// describeResult returns for example "booked", "event_full" or "seminar/TORM100519 2 of 3".
func describeResult(r *dems.Result) string {
	var words []string
	if r.Code != dems.OK {
		words = append(words, r.Code.String())
	}
	if r.Outcome != dems.NoOutcome {
		words = append(words, r.Outcome.String())
	}
	add := func(prefix string, key dems.EventKey) {
		if key != (dems.EventKey{}) {
			words = append(words, prefix+key.String())
		}
	}
	add("", r.Booking)
	add("in place of ", r.Old)
	if r.Event != (dems.EventView{}) {
		words = append(words, describeView(r.Event))
	}
	var list []string
	for _, view := range r.Events {
		list = append(list, describeView(view))
	}
	for _, key := range r.Bookings {
		list = append(list, key.String())
	}
	for _, a := range r.Affected {
		text := a.Customer.String() + " " + a.Outcome.String()
		if a.Event != (dems.EventKey{}) {
			text += " to " + a.Event.String()
		}
		list = append(list, text)
	}
	if len(words) == 0 && len(list) == 0 {
		return "nothing is there"
	}
	if len(list) > 0 {
		words = append(words, "["+strings.Join(list, ", ")+"]")
	}
	return strings.Join(words, " ")
}

func describeView(v dems.EventView) string {
	return fmt.Sprintf("%s %d of %d", v.Key, v.Booked, v.Capacity)
}

// String returns the events with who has booked them, in booking order.
func (s *state) String() string { return s.about(func(*event) bool { return true }) }

// about returns those of the events that matter.
func (s *state) about(matters func(*event) bool) string {
	var list []string
	for _, e := range s.events {
		if !matters(e) {
			continue
		}
		text := describeView(e.view())
		for i, customer := range e.bookings {
			text += map[bool]string{true: " (", false: ", "}[i == 0] + customer.String()
		}
		if len(e.bookings) > 0 {
			text += ")"
		}
		list = append(list, text)
	}
	if len(list) == 0 {
		return "no events"
	}
	return strings.Join(list, "; ")
}

// concerns returns which events a command is about.
func concerns(c *dems.Command) func(*event) bool {
	return func(e *event) bool {
		return e.key == c.Event || e.key == c.OldEvent || c.Op == dems.ListEventAvailability && e.key.Type == c.Event.Type ||
			c.Op.ForCustomer() && e.bookedBy(c.Customer)
	}
}
