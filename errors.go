package dems

import "errors"

// Code says why a request was refused or failed. Clients act on the code only. The zero Code is success.
type Code uint8

// The codes. Their numbers are part of the format of results and snapshots: append, never renumber.
const (
	OK Code = iota
	MalformedRequest
	InvalidUserID
	InvalidEventID
	InvalidEventType
	InvalidCapacity
	InvalidIdempotencyKey
	Unauthenticated
	ForbiddenRole
	ForbiddenCity
	ForbiddenCustomer
	EventNotFound
	NotBooked
	NotFound
	MethodNotAllowed
	PayloadTooLarge
	UnsupportedMediaType
	AlreadyBooked
	EventFull
	MonthlyLimit
	CapacityBelowBooked
	HasBookings
	AmbiguousEventType
	SameEvent
	IdempotencyKeyReused
	RateLimited
	Unavailable
	NoMajority
	Indeterminate
	Internal
	codeCount
)

// codes gives each code its name, its title and the sentence that tells people what to do when nothing more specific
// is known.
var codes = [codeCount]struct{ name, title, advice string }{
	OK:                    {"ok", "Done", ""},
	MalformedRequest:      {"malformed_request", "Malformed request", "The request could not be read; correct it and send it again."},
	InvalidUserID:         {"invalid_user_id", "Invalid user ID", "A user ID is a city of this cluster, M or C, and four digits, as in TORC0001; where a customer is asked for, C."},
	InvalidEventID:        {"invalid_event_id", "Invalid event ID", "An event ID is a city of this cluster, M, A or E, and an existing date as ddmmyy, as in TORM100519."},
	InvalidEventType:      {"invalid_event_type", "Invalid event type", "An event type is conference, seminar or tradeshow."},
	InvalidCapacity:       {"invalid_capacity", "Invalid capacity", "A capacity is a whole number from 1 to 1000000."},
	InvalidIdempotencyKey: {"invalid_idempotency_key", "Invalid idempotency key", "An idempotency key has 1 to 128 visible ASCII characters."},
	Unauthenticated:       {"unauthenticated", "Unauthenticated", "Say who is asking: send the header Dems-User."},
	ForbiddenRole:         {"forbidden_role", "Managers only", "This operation is for managers; ask one of the event's city."},
	ForbiddenCity:         {"forbidden_city", "Another city's event", "A manager adds and removes events of the own city only; ask a manager of the event's city."},
	ForbiddenCustomer:     {"forbidden_customer", "Another customer", "A customer acts for itself only; ask a manager to act for somebody else."},
	EventNotFound:         {"event_not_found", "No such event", "No event of that type has that ID; list the events of the type to see which there are."},
	NotBooked:             {"not_booked", "Not booked", "The customer has no such booking; look at the customer's schedule."},
	NotFound:              {"not_found", "Not found", "Nothing is served under this address; /openapi.json lists what is."},
	MethodNotAllowed:      {"method_not_allowed", "Method not allowed", "The Allow header lists the methods of this address."},
	PayloadTooLarge:       {"payload_too_large", "Payload too large", "Send a smaller body."},
	UnsupportedMediaType:  {"unsupported_media_type", "Unsupported media type", "Send the body as application/json."},
	AlreadyBooked:         {"already_booked", "Already booked", "The customer has a booking of this event already; nothing needs to be done."},
	EventFull:             {"event_full", "Event full", "Every seat is taken; choose another event or ask again after a cancellation."},
	MonthlyLimit:          {"monthly_limit", "Monthly limit reached", "The customer has three bookings outside the home city in that month; cancel one or choose another month."},
	CapacityBelowBooked:   {"capacity_below_booked", "Capacity below bookings", "More seats are booked than that; choose a capacity of at least the seats booked."},
	HasBookings:           {"has_bookings", "Event has bookings", "The event has bookings; remove it with bookings=rebook or bookings=cancel."},
	AmbiguousEventType:    {"ambiguous_event_type", "Ambiguous event type", "The customer has several bookings with that event ID; name the event type."},
	SameEvent:             {"same_event", "Same event", "The old and the new event are the same; nothing needs to be done."},
	IdempotencyKeyReused:  {"idempotency_key_reused", "Idempotency key reused", "This key came with another request before; use a new key for a new request."},
	RateLimited:           {"rate_limited", "Rate limited", "Too many requests; wait as long as Retry-After says."},
	Unavailable:           {"unavailable", "Unavailable", "The request was not applied because no majority of the nodes answers; send it again later."},
	NoMajority:            {"no_majority", "No majority", "The nodes disagree and no answer has a majority; an operator has to look at the cluster."},
	Indeterminate:         {"indeterminate", "Outcome unknown", "The request may have been applied; send it again with the same idempotency key to learn the outcome."},
	Internal:              {"internal", "Internal error", "Something went wrong in the front end; its log tells what."},
}

// String returns the code as clients see it, for example event_full.
func (c Code) String() string {
	if c >= codeCount {
		return "unknown"
	}
	return codes[c].name
}

// Title returns a short, constant sentence for people.
func (c Code) Title() string {
	if c >= codeCount {
		return "Unknown"
	}
	return codes[c].title
}

// Advice returns a sentence that tells what to do.
func (c Code) Advice() string {
	if c >= codeCount {
		return ""
	}
	return codes[c].advice
}

// Codes returns every code but OK, in the order of their numbers.
func Codes() []Code {
	all := make([]Code, 0, codeCount-1)
	for code := OK + 1; code < codeCount; code++ {
		all = append(all, code)
	}
	return all
}

// ParseCode returns the code with that name.
func ParseCode(name string) (Code, bool) {
	for code := OK; code < codeCount; code++ {
		if codes[code].name == name {
			return code, true
		}
	}
	return 0, false
}

// Error is a refusal or a failure with its code.
type Error struct {
	Code   Code
	Detail string // a sentence that tells what to do; empty: the code's advice
}

// Error implements error.
func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Code.String() + ": " + e.Code.Advice()
	}
	return e.Code.String() + ": " + e.Detail
}

// newError makes an Error with a code and a detail of its own.
func newError(code Code, detail string) *Error { return &Error{Code: code, Detail: detail} }

// CodeOf returns the code of an error: OK for nil, Internal where none was given.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	if coded, ok := errors.AsType[*Error](err); ok {
		return coded.Code
	}
	return Internal
}
