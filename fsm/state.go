package fsm

import (
	"dems"

	"github.com/tidwall/btree"
)

// Everything here that changes the state keeps the digest: open takes the old record out of it and makes sure that the
// record is not shared with a snapshot, close puts the new one in. Between the two a record may be changed.

// cityState is the state that belongs to one city.
type cityState struct {
	city       dems.City
	events     [typeCount]btree.Map[uint64, *event] // by type, then EventKey.Order
	membership [typeCount]uint64                    // index of the last entry that added or removed an event of the type
	records    uint64                               // of the city's log
	chain      dems.Digest                          // over those records
	sum        sum                                  // digest of the city, its head included
	head       hash                                 // of the head, as it stands in sum
	changed    bool                                 // the head has changed since
}

// event is one event with its bookings.
type event struct {
	generation uint64
	version    uint64 // index of the last entry that touched it
	key        dems.EventKey
	capacity   uint32                         // seats
	bookings   btree.Map[uint64, dems.UserID] // by booking number
}

// customer is what a customer has booked: an index of the same facts as the events' bookings. A customer that ever
// booked stays, for its version.
type customer struct {
	planted    plantedCount // nothing, unless a bug is planted
	generation uint64
	version    uint64                    // index of the last entry that touched it
	bookings   btree.Map[uint64, uint64] // EventKey.Order → booking number
}

func (e *event) booked() uint32 { return uint32(e.bookings.Len()) }

func (e *event) full() bool { return e.booked() >= e.capacity }

func (e *event) view() dems.EventView {
	return dems.EventView{Key: e.key, Capacity: e.capacity, Booked: e.booked()}
}

// find returns the state of the event's city, and the event, or nil where there is none. The city must be one of ours.
func (m *Machine) find(key dems.EventKey) (*cityState, *event) {
	state := m.state(key.ID.City)
	found, _ := state.events[key.Type].Get(key.Order())
	return state, found
}

// customer returns what is known of a customer, or nil if it never booked.
func (m *Machine) customer(user dems.UserID) *customer {
	found, _ := m.customers.Get(user.Order())
	return found
}

// number returns the number of the customer's booking of an event. The receiver may be nil.
func (c *customer) number(key dems.EventKey) (uint64, bool) {
	if c == nil {
		return 0, false
	}
	return c.bookings.Get(key.Order())
}

// withinLimit tells whether the customer may book an event besides what it holds, the booking of except left out of
// account. The receiver may be nil.
func (c *customer) withinLimit(user dems.UserID, key, except dems.EventKey) bool {
	if c == nil || !key.IsForeign(user) {
		return true
	}
	if c.planted.reached(user, key) {
		return false
	}
	foreign, month := 0, key.ID.Date.MonthNumber()
	first := dems.EventKey{ID: dems.EventID{Date: key.ID.Date}}
	first.ID.Date.Day = 0
	c.bookings.Ascend(first.Order(), func(order, _ uint64) bool {
		held := dems.EventKeyFromOrder(order)
		if held.ID.Date.MonthNumber() != month {
			return false
		}
		if held.IsForeign(user) && held != except {
			foreign++
		}
		return true
	})
	return foreign < dems.MaxForeignBookingsPerMonth
}

// addEvent adds an event that does not exist.
func (m *Machine) addEvent(state *cityState, key dems.EventKey, capacity uint32) *event {
	added := &event{generation: m.generation, key: key, capacity: capacity}
	state.events[key.Type].Set(key.Order(), added)
	m.touchMembership(state, key.Type)
	m.closeEvent(state, added)
	return added
}

// dropEvent takes an event out of its city, with its bookings still on it: the caller sees to them.
func (m *Machine) dropEvent(state *cityState, dropped *event) {
	state.sum.remove(dropped.hash())
	state.events[dropped.key.Type].Delete(dropped.key.Order())
	m.touchMembership(state, dropped.key.Type)
}

func (m *Machine) touchMembership(state *cityState, eventType dems.EventType) {
	state.membership[eventType] = m.index
	state.changed = true
	m.typeVersions[eventType] = m.index
}

// openEvent returns the event to change: itself, or a copy that took its place if a snapshot shares it.
func (m *Machine) openEvent(state *cityState, e *event) *event {
	state.sum.remove(e.hash())
	if e.generation == m.generation {
		return e
	}
	opened := &event{generation: m.generation, version: e.version, key: e.key, capacity: e.capacity}
	opened.bookings = *e.bookings.Copy()
	state.events[e.key.Type].Set(e.key.Order(), opened)
	return opened
}

func (m *Machine) closeEvent(state *cityState, e *event) {
	e.version = m.index
	m.typeVersions[e.key.Type] = m.index
	state.sum.add(e.hash())
}

// openCustomer returns the customer to change: itself, a copy that took its place if a snapshot shares it, or a new one
// if c is nil.
func (m *Machine) openCustomer(home *cityState, user dems.UserID, c *customer) *customer {
	if c != nil {
		home.sum.remove(c.hash(user))
		if c.generation == m.generation {
			return c
		}
	}
	opened := &customer{generation: m.generation}
	if c != nil {
		opened.bookings, opened.planted = *c.bookings.Copy(), c.planted
	}
	m.customers.Set(user.Order(), opened)
	return opened
}

func (m *Machine) closeCustomer(home *cityState, user dems.UserID, c *customer) {
	c.version = m.index
	home.sum.add(c.hash(user))
}

// book adds a booking that the rules allow. c is the customer, nil if it never booked. It returns event and customer as
// they are afterwards: they may be copies.
func (m *Machine) book(state *cityState, e *event, user dems.UserID, c *customer) (*event, *customer) {
	m.lastBooking++
	number, order := m.lastBooking, e.key.Order()
	e = m.openEvent(state, e)
	e.bookings.Set(number, user)
	if e.booked() > e.capacity {
		m.fail("%s has %d bookings and a capacity of %d", e.key, e.booked(), e.capacity)
	}
	m.closeEvent(state, e)
	state.sum.add(bookingHash(order, number, user))
	home := m.state(user.City)
	c = m.openCustomer(home, user, c)
	if _, replaced := c.bookings.Set(order, number); replaced {
		m.fail("%s booked %s twice", user, e.key)
	}
	home.sum.add(indexHash(order, number, user))
	c.planted.add(user, e.key)
	m.closeCustomer(home, user, c)
	return e, c
}

// unbook removes a booking from the event and from the customer, and returns the customer, which may be a copy.
func (m *Machine) unbook(key dems.EventKey, number uint64, user dems.UserID, c *customer) *customer {
	state, e := m.find(key)
	if e == nil {
		m.fail("%s holds a booking of %s, which does not exist", user, key)
		return c
	}
	e = m.openEvent(state, e)
	if holder, found := e.bookings.Delete(number); !found || holder != user {
		m.fail("booking %d of %s is not that of %s", number, key, user)
	}
	m.closeEvent(state, e)
	state.sum.remove(bookingHash(key.Order(), number, user))
	return m.unindex(key, number, user, c)
}

// unindex removes a booking from the customer alone.
func (m *Machine) unindex(key dems.EventKey, number uint64, user dems.UserID, c *customer) *customer {
	order, home := key.Order(), m.state(user.City)
	c = m.openCustomer(home, user, c)
	if held, found := c.bookings.Delete(order); !found || held != number {
		m.fail("%s does not hold booking %d of %s", user, number, key)
	}
	home.sum.remove(indexHash(order, number, user))
	m.closeCustomer(home, user, c)
	return c
}
