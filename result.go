package dems

import "fmt"

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
func (r *Result) Text(command *Command) string {
	if r.Code != OK {
		return r.Code.Advice()
	}
	switch command.Op {
	case AddEvent:
		return fmt.Sprintf("%s %s with capacity %d.", r.Event.Key, r.Outcome, r.Event.Capacity)
	case RemoveEvent:
		return fmt.Sprintf("%s removed; %d bookings affected.", r.Event.Key, len(r.Affected))
	case BookEvent:
		return "Booked " + r.Booking.String() + " for " + r.Customer.String() + "."
	case CancelEvent:
		return "Cancelled " + r.Booking.String() + " for " + r.Customer.String() + "."
	case SwapEvent:
		return "Swapped " + r.Old.String() + " for " + r.Booking.String() + " for " + r.Customer.String() + "."
	case ListEventAvailability:
		return fmt.Sprintf("%d events.", len(r.Events))
	case GetBookingSchedule:
		return fmt.Sprintf("%d bookings.", len(r.Bookings))
	case GetEvent:
		return fmt.Sprintf("%s: %d of %d seats available.", r.Event.Key, r.Event.Available(), r.Event.Capacity)
	}
	return ""
}
