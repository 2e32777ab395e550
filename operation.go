package dems

import (
	"strconv"
	"strings"
	"time"
)

// Op is an operation.
type Op uint8

// The operations. Their numbers are part of the format of log entries: append, never renumber.
const (
	AddEvent Op = iota + 1
	RemoveEvent
	ListEventAvailability
	BookEvent
	GetBookingSchedule
	CancelEvent
	SwapEvent
	GetEvent // one event, for managers
	opCount
)

var opNames = [opCount]string{
	AddEvent:              "addEvent",
	RemoveEvent:           "removeEvent",
	ListEventAvailability: "listEventAvailability",
	BookEvent:             "bookEvent",
	GetBookingSchedule:    "getBookingSchedule",
	CancelEvent:           "cancelEvent",
	SwapEvent:             "swapEvent",
	GetEvent:              "getEvent",
}

// String returns the name of the operation, for example bookEvent.
func (o Op) String() string {
	if o == 0 || o >= opCount {
		return "unknown"
	}
	return opNames[o]
}

// ParseOp returns the operation with that name; case counts.
func ParseOp(name string) (Op, bool) {
	for op := AddEvent; op < opCount; op++ {
		if opNames[op] == name {
			return op, true
		}
	}
	return 0, false
}

// Mutates tells whether the operation can change the state.
func (o Op) Mutates() bool {
	switch o {
	case AddEvent, RemoveEvent, BookEvent, CancelEvent, SwapEvent:
		return true
	}
	return false
}

// ForManagers tells whether only managers may ask for the operation.
func (o Op) ForManagers() bool {
	switch o {
	case AddEvent, RemoveEvent, ListEventAvailability, GetEvent:
		return true
	}
	return false
}

// ForCustomer tells whether the operation is for one customer.
func (o Op) ForCustomer() bool {
	switch o {
	case BookEvent, GetBookingSchedule, CancelEvent, SwapEvent:
		return true
	}
	return false
}

// BookingPolicy says what becomes of the bookings of an event that is removed.
type BookingPolicy uint8

// The policies.
const (
	Rebook         BookingPolicy = iota // to the next later event of the type in the city, where there is one
	CancelBookings                      // all are cancelled
	Refuse                              // an event with bookings is not removed
	policyCount
)

var policyNames = [policyCount]string{"rebook", "cancel", "refuse"}

// String returns rebook, cancel or refuse.
func (p BookingPolicy) String() string {
	if p >= policyCount {
		return "unknown"
	}
	return policyNames[p]
}

// ParseBookingPolicy returns the policy with that name; "" is rebook.
func ParseBookingPolicy(name string) (BookingPolicy, bool) {
	for policy := range policyCount {
		if policyNames[policy] == name {
			return policy, true
		}
	}
	return Rebook, name == ""
}

// Command is an operation whose parameters have been parsed. It is a value; copies share nothing mutable.
type Command struct {
	Op       Op
	Time     time.Time // when the front end received it, UTC, to the millisecond
	By       UserID    // who asks
	Key      string    // idempotency key that the client sent, or ""
	Customer UserID    // for whom, where the operation is for a customer
	Event    EventKey  // the event; the type alone for lists; the new event for swaps; for cancel the type may be absent
	OldEvent EventKey  // swaps only
	Capacity uint32    // addEvent only, in seats
	Bookings BookingPolicy
}

// Request is an operation as a client wrote it: text, nothing checked.
type Request struct {
	Op                       string
	By                       string
	CustomerID               string
	EventID, EventType       string
	NewEventID, NewEventType string
	OldEventID, OldEventType string
	Capacity                 string // as a JSON number
	Bookings                 string
	Key                      string
	KeyGiven                 bool // whether the client sent a key at all
}

// Parse checks the syntax of a request in the documented order (who asks, customer, event ID, event type, capacity, the
// rest) and returns the command, without a time. Parameters that the operation does not have are not looked at. The
// error is always an *Error.
func (c Cities) Parse(r Request) (Command, error) {
	op, ok := ParseOp(r.Op)
	if !ok {
		return Command{}, newError(MalformedRequest, "There is no operation of that name.")
	}
	command := Command{Op: op, Key: r.Key}
	if command.By, ok = c.ParseUserID(r.By); !ok {
		return Command{}, newError(InvalidUserID, "")
	}
	if op.ForCustomer() {
		if command.Customer, ok = c.ParseUserID(r.CustomerID); !ok || !command.Customer.IsCustomer() {
			return Command{}, newError(InvalidUserID, "")
		}
	}
	if err := c.parseEvents(r, &command); err != nil {
		return Command{}, err
	}
	if op == AddEvent {
		if command.Capacity, ok = parseCapacity(r.Capacity); !ok {
			return Command{}, newError(InvalidCapacity, "")
		}
	}
	if op == RemoveEvent {
		if command.Bookings, ok = ParseBookingPolicy(r.Bookings); !ok {
			return Command{}, newError(MalformedRequest, "bookings is rebook, cancel or refuse.")
		}
	}
	if (r.KeyGiven || r.Key != "") && !ValidKey(r.Key) {
		return Command{}, newError(InvalidIdempotencyKey, "")
	}
	return command, nil
}

// parseEvents parses the event IDs of a request and then the event types.
func (c Cities) parseEvents(r Request, command *Command) error {
	eventID, eventType := r.EventID, r.EventType
	if command.Op == SwapEvent {
		eventID, eventType = r.NewEventID, r.NewEventType
	}
	var ok bool
	switch command.Op {
	case GetBookingSchedule:
		return nil
	case ListEventAvailability:
	default:
		if command.Event.ID, ok = c.ParseEventID(eventID); !ok {
			return newError(InvalidEventID, "")
		}
	}
	if command.Op == SwapEvent {
		if command.OldEvent.ID, ok = c.ParseEventID(r.OldEventID); !ok {
			return newError(InvalidEventID, "")
		}
	}
	if command.Op == CancelEvent && eventType == "" {
		return nil
	}
	if command.Event.Type, ok = ParseEventType(eventType); !ok {
		return newError(InvalidEventType, "")
	}
	if command.Op == SwapEvent {
		if command.OldEvent.Type, ok = ParseEventType(r.OldEventType); !ok {
			return newError(InvalidEventType, "")
		}
	}
	return nil
}

// ParseUserID parses a user ID of one of the cities.
func (c Cities) ParseUserID(text string) (UserID, bool) {
	id, ok := ParseUserID(text)
	return id, ok && c.Has(id.City)
}

// ParseEventID parses an event ID of one of the cities.
func (c Cities) ParseEventID(text string) (EventID, bool) {
	id, ok := ParseEventID(text)
	return id, ok && c.Has(id.City)
}

func parseCapacity(text string) (uint32, bool) {
	capacity, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	return uint32(capacity), err == nil && capacity >= 1 && capacity <= MaxCapacity
}

// ValidKey tells whether an idempotency key has 1 to MaxKeyBytes visible ASCII characters.
func ValidKey(key string) bool {
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return len(key) >= 1 && len(key) <= MaxKeyBytes
}

// Check repeats the checks of Parse on a command that came from somewhere else, in the same order, and returns the code
// of the first that fails. The state machine calls it for every command.
func (c Cities) Check(command *Command) Code {
	op := command.Op
	if op == 0 || op >= opCount {
		return MalformedRequest
	}
	if !command.By.wellFormed() || !c.Has(command.By.City) {
		return InvalidUserID
	}
	if op.ForCustomer() &&
		(!command.Customer.wellFormed() || !c.Has(command.Customer.City) || !command.Customer.IsCustomer()) {
		return InvalidUserID
	}
	if code := c.checkEvents(command); code != OK {
		return code
	}
	if op == AddEvent && (command.Capacity < 1 || command.Capacity > MaxCapacity) {
		return InvalidCapacity
	}
	if command.Bookings >= policyCount {
		return MalformedRequest
	}
	if command.Key != "" && !ValidKey(command.Key) {
		return InvalidIdempotencyKey
	}
	return OK
}

func (c Cities) checkEvents(command *Command) Code {
	op := command.Op
	if op == GetBookingSchedule {
		return OK
	}
	hasID := func(id EventID) bool { return id.wellFormed() && c.Has(id.City) }
	if op != ListEventAvailability && !hasID(command.Event.ID) {
		return InvalidEventID
	}
	if op == SwapEvent && !hasID(command.OldEvent.ID) {
		return InvalidEventID
	}
	untyped := op == CancelEvent && command.Event.Type == 0
	if !untyped && !command.Event.Type.wellFormed() {
		return InvalidEventType
	}
	if op == SwapEvent && !command.OldEvent.Type.wellFormed() {
		return InvalidEventType
	}
	return OK
}
