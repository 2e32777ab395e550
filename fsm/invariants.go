package fsm

import (
	"fmt"

	"dems"
)

// CheckInvariants looks for contradictions in the state: bookings beyond a capacity, bookings and customer index that
// differ, a monthly limit that is exceeded, orders that are not kept. It takes about 0.3 µs a booking. The error wraps
// ErrInvariant.
func (m *Machine) CheckInvariants() error {
	booked, err := m.checkEvents()
	if err != nil {
		return err
	}
	indexed, err := m.checkCustomers()
	if err != nil {
		return err
	}
	if booked != indexed {
		return broken("%d bookings, but %d in the customer index", booked, indexed)
	}
	if err := m.checkSessions(); err != nil {
		return err
	}
	if err := m.checkKeys(); err != nil {
		return err
	}
	return m.checkCluster()
}

func broken(format string, arguments ...any) error {
	return fmt.Errorf("%w: %s", ErrInvariant, fmt.Sprintf(format, arguments...))
}

// checkEvents checks every event and returns how many bookings there are.
func (m *Machine) checkEvents() (int, error) {
	var err error
	bookings := 0
	for i := range m.states {
		state := &m.states[i]
		for eventType := range state.events {
			state.events[eventType].Scan(func(order uint64, e *event) bool {
				bookings += e.bookings.Len()
				if order != e.key.Order() || int(e.key.Type) != eventType || e.key.ID.City != state.city {
					err = broken("%s is in the wrong place", e.key)
				} else {
					err = m.checkEvent(e)
				}
				return err == nil
			})
			if err == nil && max(state.membership[eventType], m.typeVersions[eventType]) > m.index {
				err = broken("a version of %s is above the index", state.city)
			}
			if err != nil {
				return 0, err
			}
		}
	}
	return bookings, nil
}

func (m *Machine) checkEvent(e *event) error {
	switch {
	case e.capacity < 1 || e.capacity > dems.MaxCapacity:
		return broken("%s has a capacity of %d", e.key, e.capacity)
	case e.bookings.Len() > int(e.capacity):
		return broken("%s has %d bookings and a capacity of %d", e.key, e.bookings.Len(), e.capacity)
	case e.version == 0 || e.version > m.index || e.version > m.typeVersions[e.key.Type]:
		return broken("%s has version %d", e.key, e.version)
	}
	var err error
	e.bookings.Scan(func(number uint64, user dems.UserID) bool {
		if held, found := m.customer(user).number(e.key); !found || held != number {
			err = broken("booking %d of %s is not in the index of %s", number, e.key, user)
		} else if number == 0 || number > m.lastBooking {
			err = broken("booking %d of %s has an impossible number", number, e.key)
		}
		return err == nil
	})
	return err
}

// checkCustomers checks the limits and returns how many bookings the index has.
func (m *Machine) checkCustomers() (int, error) {
	var err error
	bookings := 0
	m.customers.Scan(func(order uint64, c *customer) bool {
		user := dems.UserIDFromOrder(order)
		bookings += c.bookings.Len()
		if c.version == 0 || c.version > m.index {
			err = broken("%s has version %d", user, c.version)
		} else {
			err = c.checkLimit(user)
		}
		return err == nil
	})
	return bookings, err
}

func (c *customer) checkLimit(user dems.UserID) error {
	var err error
	month, foreign := -1, 0
	c.bookings.Scan(func(order, _ uint64) bool {
		key := dems.EventKeyFromOrder(order)
		if number := key.ID.Date.MonthNumber(); number != month {
			month, foreign = number, 0
		}
		if key.IsForeign(user) {
			foreign++
		}
		if foreign > dems.MaxForeignBookingsPerMonth {
			err = broken("%s has %d foreign bookings in the month of %s", user, foreign, key)
		}
		return err == nil
	})
	return err
}

// checkSessions checks that what sessions remember is within their windows and counted.
func (m *Machine) checkSessions() error {
	stored := 0
	for i := range m.sessions.open {
		s := &m.sessions.open[i]
		if i > 0 && m.sessions.open[i-1].id >= s.id || s.used > m.index {
			return broken("session %d is out of order", s.id)
		}
		for j := range s.batches {
			b := &s.batches[j]
			stored += len(b.results)
			if b.number != 0 && (s.batch(b.number) != b || s.tooOld(b.number) || b.number > s.highest || b.index > s.used) {
				return broken("batch %d of session %d is out of its window", b.number, s.id)
			}
		}
	}
	if stored != m.sessions.storedBytes {
		return broken("%d bytes of results, counted as %d", stored, m.sessions.storedBytes)
	}
	return nil
}

// checkKeys checks that idempotency keys are in log order and within their limits.
func (m *Machine) checkKeys() error {
	var err error
	count, size, last := 0, 0, uint64(0)
	m.keys.each(func(record keyRecord) bool {
		count++
		size += len(record.whole)
		if found, ok := m.keys.find(record.name); !ok || &found.whole[0] != &record.whole[0] {
			err = broken("idempotency key %d is not found", count)
		} else if record.time < last || record.time > m.clock {
			err = broken("idempotency key %d was stored at %d, after %d and before %d", count, record.time, last, m.clock)
		}
		last = record.time
		return err == nil
	})
	if err != nil {
		return err
	}
	if count > 0 && count != m.keys.index.count {
		return broken("%d idempotency keys and %d in their index", count, m.keys.index.count)
	}
	if count != m.keys.count || size != m.keys.bytes || count > m.limits.keys {
		return broken("%d idempotency keys of %d bytes, counted as %d of %d", count, size, m.keys.count, m.keys.bytes)
	}
	return nil
}
