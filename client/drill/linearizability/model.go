package linearizability

import (
	"slices"

	"dems"
)

// The rules once more, from the specification and not from the state machine's code: what it gets wrong is to be noticed here.
// They are meant to be read beside the specification and to be obviously right. A command is one whose syntax was checked.

// state is the events of one group and who has booked them. It is a value: operations return another one. The zero state has
// no events.
type state struct {
	events []*event // in chronological order; each is there once and is never changed
	hash   uint64   // of all events, in any order
}

// event is an event with its bookings. It is never changed.
type event struct {
	key      dems.EventKey
	capacity uint32
	bookings []dems.UserID // in booking order
	hash     uint64
}

func refused(code dems.Code) dems.Result { return dems.Result{Code: code} }

// do returns the answer to a command, without a sequence, and the state after it. A refusal and a read return s itself.
func (s *state) do(c *dems.Command) (*state, dems.Result) {
	if code := permitted(c); code != dems.OK {
		return s, refused(code)
	}
	switch c.Op {
	case dems.AddEvent:
		return s.add(c)
	case dems.RemoveEvent:
		return s.remove(c)
	case dems.BookEvent:
		if code := s.bookable(c.Customer, c.Event); code != dems.OK {
			return s, refused(code)
		}
		return s.book(c.Customer, c.Event), dems.Result{Outcome: dems.Booked, Booking: c.Event, Customer: c.Customer}
	case dems.CancelEvent:
		return s.cancel(c)
	case dems.SwapEvent:
		return s.swap(c)
	case dems.GetEvent:
		if e := s.find(c.Event); e != nil {
			return s, dems.Result{Event: e.view()}
		}
		return s, refused(dems.EventNotFound)
	case dems.ListEventAvailability:
		return s, dems.Result{Type: c.Event.Type, Events: s.list(c.Event.Type)}
	case dems.GetBookingSchedule:
		return s, dems.Result{Customer: c.Customer, Bookings: s.schedule(c.Customer)}
	}
	return s, refused(dems.MalformedRequest)
}

// permitted checks role, city and customer.
func permitted(c *dems.Command) dems.Code {
	switch c.Op {
	case dems.AddEvent, dems.RemoveEvent:
		if c.By.Role != dems.Manager {
			return dems.ForbiddenRole
		}
		if c.By.City != c.Event.ID.City {
			return dems.ForbiddenCity
		}
	case dems.ListEventAvailability, dems.GetEvent:
		if c.By.Role != dems.Manager {
			return dems.ForbiddenRole
		}
	default:
		if c.By.Role != dems.Manager && c.By != c.Customer {
			return dems.ForbiddenCustomer
		}
	}
	return dems.OK
}

func (s *state) add(c *dems.Command) (*state, dems.Result) {
	e, outcome := s.find(c.Event), dems.Updated
	if e == nil {
		e, outcome = &event{key: c.Event}, dems.Created
	}
	if uint32(len(e.bookings)) > c.Capacity {
		return s, refused(dems.CapacityBelowBooked)
	}
	e = newEvent(e.key, c.Capacity, e.bookings)
	return s.with(e), dems.Result{Outcome: outcome, Event: e.view()}
}

// remove removes an event. Each booking moves, in booking order, to the next later event of the type in the city that takes
// it, if that is what is wanted and there is one.
func (s *state) remove(c *dems.Command) (*state, dems.Result) {
	removed := s.find(c.Event)
	if removed == nil {
		return s, refused(dems.EventNotFound)
	}
	if c.Bookings == dems.Refuse && len(removed.bookings) > 0 {
		return s, refused(dems.HasBookings)
	}
	result := dems.Result{Outcome: dems.Removed, Event: removed.view()}
	s = s.without(removed.key)
	for _, customer := range removed.bookings {
		affected := dems.Affected{Customer: customer, Outcome: dems.Cancelled}
		if c.Bookings == dems.Rebook {
			if e := s.nextFor(customer, removed.key); e != nil {
				s = s.book(customer, e.key)
				affected.Outcome, affected.Event = dems.Rebooked, e.key
			}
		}
		result.Affected = append(result.Affected, affected)
	}
	return s, result
}

// nextFor returns the first event after a removed one, of the same type in the same city, that the customer can book.
func (s *state) nextFor(customer dems.UserID, removed dems.EventKey) *event {
	for _, e := range s.events {
		if e.key.Type == removed.Type && e.key.ID.City == removed.ID.City && e.key.Compare(removed) > 0 &&
			s.bookable(customer, e.key) == dems.OK {
			return e
		}
	}
	return nil
}

func (s *state) cancel(c *dems.Command) (*state, dems.Result) {
	var held []dems.EventKey
	for _, e := range s.events {
		if e.key.ID == c.Event.ID && (c.Event.Type == 0 || e.key.Type == c.Event.Type) && e.bookedBy(c.Customer) {
			held = append(held, e.key)
		}
	}
	switch len(held) {
	case 0:
		return s, refused(dems.NotBooked)
	case 1:
		return s.unbook(c.Customer, held[0]), dems.Result{Outcome: dems.Cancelled, Booking: held[0], Customer: c.Customer}
	}
	return s, refused(dems.AmbiguousEventType)
}

// swap judges the new booking on the state that giving up the old one leaves.
func (s *state) swap(c *dems.Command) (*state, dems.Result) {
	if old := s.find(c.OldEvent); old == nil || !old.bookedBy(c.Customer) {
		return s, refused(dems.NotBooked)
	}
	if c.Event == c.OldEvent {
		return s, refused(dems.SameEvent)
	}
	left := s.unbook(c.Customer, c.OldEvent)
	if code := left.bookable(c.Customer, c.Event); code != dems.OK {
		return s, refused(code)
	}
	return left.book(c.Customer, c.Event),
		dems.Result{Outcome: dems.Swapped, Booking: c.Event, Old: c.OldEvent, Customer: c.Customer}
}

// bookable checks existence, duplicate, capacity and monthly limit.
func (s *state) bookable(customer dems.UserID, key dems.EventKey) dems.Code {
	e := s.find(key)
	switch {
	case e == nil:
		return dems.EventNotFound
	case e.bookedBy(customer):
		return dems.AlreadyBooked
	case uint32(len(e.bookings)) >= e.capacity:
		return dems.EventFull
	case foreign(customer, key) && s.foreignInMonth(customer, key.ID.Date) >= 3:
		return dems.MonthlyLimit
	}
	return dems.OK
}

func foreign(customer dems.UserID, key dems.EventKey) bool { return customer.City != key.ID.City }

// foreignInMonth counts a customer's bookings outside the home city in the month of a date.
func (s *state) foreignInMonth(customer dems.UserID, date dems.Date) int {
	count := 0
	for _, e := range s.events {
		of := e.key.ID.Date
		if of.Year == date.Year && of.Month == date.Month && foreign(customer, e.key) && e.bookedBy(customer) {
			count++
		}
	}
	return count
}

func (s *state) list(eventType dems.EventType) []dems.EventView {
	var views []dems.EventView
	for _, e := range s.events {
		if e.key.Type == eventType {
			views = append(views, e.view())
		}
	}
	return views
}

func (s *state) schedule(customer dems.UserID) []dems.EventKey {
	var keys []dems.EventKey
	for _, e := range s.events {
		if e.bookedBy(customer) {
			keys = append(keys, e.key)
		}
	}
	return keys
}

func (e *event) bookedBy(customer dems.UserID) bool { return slices.Contains(e.bookings, customer) }

func (e *event) view() dems.EventView {
	return dems.EventView{Key: e.key, Capacity: e.capacity, Booked: uint32(len(e.bookings))}
}

// find returns the event with that key, nil where there is none.
func (s *state) find(key dems.EventKey) *event {
	for _, e := range s.events {
		if e.key == key {
			return e
		}
	}
	return nil
}

// book and unbook return the state with one booking more, or less. The event exists.
func (s *state) book(customer dems.UserID, key dems.EventKey) *state {
	e := s.find(key)
	return s.with(newEvent(key, e.capacity, append(slices.Clip(e.bookings), customer)))
}

func (s *state) unbook(customer dems.UserID, key dems.EventKey) *state {
	e := s.find(key)
	left := slices.DeleteFunc(slices.Clone(e.bookings), func(other dems.UserID) bool { return other == customer })
	return s.with(newEvent(key, e.capacity, left))
}

// with returns the state in which an event is as given, whether it existed or not.
func (s *state) with(e *event) *state {
	at, exists := slices.BinarySearchFunc(s.events, e.key, func(e *event, key dems.EventKey) int { return e.key.Compare(key) })
	next := &state{hash: s.hash ^ e.hash}
	if exists {
		next.hash ^= s.events[at].hash
		next.events = slices.Clone(s.events)
		next.events[at] = e
	} else {
		next.events = slices.Insert(slices.Clip(s.events), at, e)
	}
	return next
}

// without returns the state in which there is no event with that key. There was one.
func (s *state) without(key dems.EventKey) *state {
	return &state{
		hash:   s.hash ^ s.find(key).hash,
		events: slices.DeleteFunc(slices.Clone(s.events), func(e *event) bool { return e.key == key }),
	}
}

// newEvent returns an event with its hash. It keeps bookings, which must not be changed any more.
func newEvent(key dems.EventKey, capacity uint32, bookings []dems.UserID) *event {
	hash := mix(mix(0, key.Order()), uint64(capacity))
	for _, customer := range bookings {
		hash = mix(hash, customer.Order())
	}
	return &event{key: key, capacity: capacity, bookings: bookings, hash: hash}
}

// mix adds a number to a hash, in a way in which order matters.
func mix(hash, number uint64) uint64 {
	hash = (hash ^ number) * 0x9e3779b97f4a7c15
	return hash ^ hash>>29
}

// equal tells whether two states are the same. Most that are not differ in their hash, and most events of states that are the
// same are one and the same in memory.
func (s *state) equal(other *state) bool {
	return s.hash == other.hash && slices.EqualFunc(s.events, other.events, func(a, b *event) bool {
		return a == b || a.key == b.key && a.capacity == b.capacity && slices.Equal(a.bookings, b.bookings)
	})
}
