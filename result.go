package dems

import "strconv"

// Outcome is what a successful operation did.
type Outcome uint8

// The outcomes. Their numbers are part of the format of results: append, never renumber.
const (
	NoOutcome Outcome = iota // reads and refusals
	Created
	Updated
	Removed
	Booked
	Cancelled
	Swapped
	Rebooked // of a booking whose event was removed
	outcomeCount
)

var outcomeNames = [outcomeCount]string{"", "created", "updated", "removed", "booked", "cancelled", "swapped", "rebooked"}

// String returns the outcome as clients see it.
func (o Outcome) String() string {
	if o >= outcomeCount {
		return "unknown"
	}
	return outcomeNames[o]
}

// MarshalText implements encoding.TextMarshaler.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// EventView is what may be known of an event: its capacity and the seats booked.
type EventView struct {
	Key      EventKey
	Capacity uint32
	Booked   uint32
}

// Available returns the free seats.
func (e EventView) Available() uint32 { return e.Capacity - e.Booked }

// Affected is what became of one booking of a removed event.
type Affected struct {
	Customer UserID
	Outcome  Outcome  // Rebooked or Cancelled
	Event    EventKey // where it was rebooked to
}

// Result is the answer to one command. Which fields are set depends on the operation; a refusal has the code alone.
type Result struct {
	Code     Code
	Outcome  Outcome
	Replayed bool       // stored earlier for the same idempotency key
	Sequence uint64     // log index that ordered the request; of a replay, the first one; 0 for reads not ordered
	Event    EventView  // addEvent, removeEvent (before the removal), getEvent
	Booking  EventKey   // bookEvent, cancelEvent, swapEvent: the event (cancel: with its type resolved; swap: the new one)
	Old      EventKey   // swapEvent: the event given up
	Customer UserID     // bookEvent, cancelEvent, swapEvent, getBookingSchedule
	Type     EventType  // listEventAvailability
	Affected []Affected // removeEvent, in booking order
	Events   []EventView
	Bookings []EventKey
}

// Text returns one sentence for people: what happened, or what to do about a refusal. It depends on nothing but the
// command and the result, so every node logs the same text.
func (r *Result) Text(command *Command) string { return string(r.AppendText(nil, command)) }

// AppendText appends the sentence of Text to dst: ASCII letters, digits and punctuation that JSON does not escape.
func (r *Result) AppendText(dst []byte, command *Command) []byte {
	if r.Code != OK {
		return append(dst, r.Code.Advice()...)
	}
	switch command.Op {
	case AddEvent:
		dst = append(r.Event.Key.AppendText(dst), ' ')
		dst = append(append(dst, r.Outcome.String()...), " with capacity "...)
		return append(strconv.AppendUint(dst, uint64(r.Event.Capacity), 10), '.')
	case RemoveEvent:
		dst = append(r.Event.Key.AppendText(dst), " removed; "...)
		return append(strconv.AppendInt(dst, int64(len(r.Affected)), 10), " bookings affected."...)
	case BookEvent:
		return r.appendBooking(append(dst, "Booked "...))
	case CancelEvent:
		return r.appendBooking(append(dst, "Cancelled "...))
	case SwapEvent:
		dst = r.Old.AppendText(append(dst, "Swapped "...))
		return r.appendBooking(append(dst, " for "...))
	case ListEventAvailability:
		return append(strconv.AppendInt(dst, int64(len(r.Events)), 10), " events."...)
	case GetBookingSchedule:
		return append(strconv.AppendInt(dst, int64(len(r.Bookings)), 10), " bookings."...)
	case GetEvent:
		dst = append(r.Event.Key.AppendText(dst), ": "...)
		dst = append(strconv.AppendUint(dst, uint64(r.Event.Available()), 10), " of "...)
		return append(strconv.AppendUint(dst, uint64(r.Event.Capacity), 10), " seats available."...)
	}
	return dst
}

// appendBooking appends what was booked, and for whom.
func (r *Result) appendBooking(dst []byte) []byte {
	dst = append(r.Booking.AppendText(dst), " for "...)
	return append(r.Customer.AppendText(dst), '.')
}
