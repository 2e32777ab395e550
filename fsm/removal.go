package fsm

import (
	"slices"

	"dems"
)

// operateRemoveEvent removes an event and sees to its bookings, in booking order.
func (m *Machine) operateRemoveEvent(command *dems.Command, result *dems.Result) dems.Code {
	state, removed := m.find(command.Event)
	if removed == nil {
		return dems.EventNotFound
	}
	if command.Bookings == dems.Refuse && removed.booked() > 0 {
		return dems.HasBookings
	}
	result.Outcome, result.Event = dems.Removed, removed.view()
	m.dropEvent(state, removed)
	later := laterEvents{state: state, eventType: removed.key.Type, last: removed.key.Order()}
	result.Affected = make([]dems.Affected, 0, removed.booked())
	removed.bookings.Scan(func(number uint64, user dems.UserID) bool {
		state.sum.remove(bookingHash(removed.key.Order(), number, user))
		c := m.unindex(removed.key, number, user, m.customer(user))
		affected := dems.Affected{Customer: user, Outcome: dems.Cancelled}
		if command.Bookings == dems.Rebook {
			if at, found := later.find(user, c); found {
				e, _ := m.book(state, later.free[at], user, c)
				later.booked(at, e)
				affected.Outcome, affected.Event = dems.Rebooked, e.key
			}
		}
		result.Affected = append(result.Affected, affected)
		return true
	})
	return dems.OK
}

// laterEvents finds the next later events to which bookings can move. While an event is being removed seats are only
// taken, so an event that is full is never looked at again.
type laterEvents struct {
	state     *cityState
	eventType dems.EventType
	last      uint64   // order of the last event looked at
	free      []*event // those up to there that have free seats, in chronological order
}

// laterEventsAtOnce is how many events are looked at before the ones found are tried.
const laterEventsAtOnce = 64

// find returns the position in free of the next event to which a booking of the customer can move.
func (l *laterEvents) find(user dems.UserID, c *customer) (int, bool) {
	month, within := -1, false
	for at := 0; ; at++ {
		for at == len(l.free) {
			if !l.extend() {
				return 0, false
			}
		}
		key := l.free[at].key
		if _, held := c.number(key); held {
			continue
		}
		if number := key.ID.Date.MonthNumber(); number != month {
			month, within = number, c.withinLimit(user, key, dems.EventKey{})
		}
		if within {
			return at, true
		}
	}
}

// extend looks at more events and tells whether there were any.
func (l *laterEvents) extend() bool {
	looked := 0
	l.state.events[l.eventType].Ascend(l.last+1, func(order uint64, e *event) bool {
		l.last = order
		if !e.full() {
			l.free = append(l.free, e)
		}
		looked++
		return looked < laterEventsAtOnce
	})
	return looked > 0
}

// booked puts the event as it is after a booking into its place, or takes it out if it is full.
func (l *laterEvents) booked(at int, e *event) {
	l.free[at] = e
	if e.full() {
		l.free = slices.Delete(l.free, at, at+1)
	}
}
