package fsm

import (
	"fmt"

	"dems"
)

// Resum adopts the digest that the records have, after memory changed without a command: from then on Digest tells other
// nodes, and Recompute agrees. It returns whether anything changed. It must be called as Apply is: while nothing else runs.
func (m *Machine) Resum() bool {
	before := m.Digest()
	for i := range m.sessions.open {
		s := &m.sessions.open[i]
		for j := range s.batches {
			if b := &s.batches[j]; b.results != nil {
				b.digest = dems.DigestOf(b.results)
			}
		}
	}
	m.resum()
	return m.Digest() != before
}

// Corrupt changes one record that the seed chooses, as no command does, and says what it did: it is how drills make a node
// wrong. The digest is that of the records afterwards, and no invariant is broken, so nothing on the node itself tells.
// No call undoes another: bookings are lost, and capacities grow. It must be called as Apply is: while nothing else runs.
func (m *Machine) Corrupt(seed uint64) string {
	state, e := m.chooseEvent(seed)
	seed /= 2
	switch {
	case e != nil && e.booked() > 0 && (seed%2 == 0 || e.capacity == dems.MaxCapacity):
		return m.loseBooking(state, e, int(seed/2%uint64(e.booked())))
	case e != nil && e.capacity < dems.MaxCapacity:
		before := e.capacity
		e = m.openEvent(state, e)
		e.capacity += min(uint32(1+seed/2%corruptions), dems.MaxCapacity-before)
		state.sum.add(e.hash())
		return fmt.Sprintf("%s has a capacity of %d instead of %d", e.key, e.capacity, before)
	}
	// Not the clock: the next command would bring it to where the others have it.
	before := m.lastBooking
	m.lastBooking += 1 + seed%corruptions
	return fmt.Sprintf("the last booking has number %d instead of %d", m.lastBooking, before)
}

// corruptions is in how many ways a number is made wrong: two nodes that are made wrong with seeds of their own must not
// come to agree. By losing a booking of an event with few they may.
const corruptions = 1 << 18

// chooseEvent returns the event that the seed chooses, and its city, or nil where there is no event.
func (m *Machine) chooseEvent(seed uint64) (*cityState, *event) {
	count := uint64(0)
	for i := range m.states {
		for eventType := range m.states[i].events {
			count += uint64(m.states[i].events[eventType].Len())
		}
	}
	if count == 0 {
		return nil, nil
	}
	at := int(seed % count)
	for i := range m.states {
		for eventType := range m.states[i].events {
			events := &m.states[i].events[eventType]
			if at < events.Len() {
				_, e, _ := events.GetAt(at)
				return &m.states[i], e
			}
			at -= events.Len()
		}
	}
	return nil, nil
}

// loseBooking loses a booking of an event, on both sides, and leaves the versions as they are.
func (m *Machine) loseBooking(state *cityState, e *event, at int) string {
	e = m.openEvent(state, e)
	number, user, _ := e.bookings.GetAt(at)
	e.bookings.Delete(number)
	state.sum.add(e.hash())
	order, home := e.key.Order(), m.state(user.City)
	state.sum.remove(bookingHash(order, number, user))
	version := m.customer(user).version
	c := m.openCustomer(home, user, m.customer(user))
	c.version = version
	c.bookings.Delete(order)
	home.sum.remove(indexHash(order, number, user))
	home.sum.add(c.hash(user))
	return fmt.Sprintf("the booking of %s by %s is lost", e.key, user)
}
