package fsm

import (
	"slices"
	"strings"
	"time"

	"dems"
)

// model is the rules once more, written to be obviously right and not to be fast: one list of bookings, searched from end
// to end, and identifiers compared as the text that people write. It shares no code with the machine.
type model struct {
	events   map[string]modelEvent // by "type/ID"
	bookings []modelBooking        // in booking order
	keys     []modelKey            // in log order
	now      time.Time             // log time
	maxKeys  int
}

type modelEvent struct {
	key      dems.EventKey
	capacity uint32
}

type modelBooking struct {
	customer dems.UserID
	event    dems.EventKey
}

type modelKey struct {
	user    dems.UserID
	key     string
	request dems.Command // without key and time
	result  dems.Result
	stored  time.Time
}

func newModel(maxKeys int) *model { return &model{events: map[string]modelEvent{}, maxKeys: maxKeys} }

// apply executes one command of the entry at an index.
func (m *model) apply(index uint64, command dems.Command) dems.Result {
	if command.Time.After(m.now) {
		m.now = command.Time
	}
	changes := slices.Contains([]string{"addEvent", "removeEvent", "bookEvent", "cancelEvent", "swapEvent"}, command.Op.String())
	request := command
	request.Key, request.Time = "", time.Time{}
	if changes && command.Key != "" {
		for _, known := range m.keys {
			if known.user == command.By && known.key == command.Key {
				if known.request != request {
					return dems.Result{Code: dems.IdempotencyKeyReused, Sequence: index}
				}
				replayed := known.result
				replayed.Replayed = true
				return replayed
			}
		}
	}
	result := m.execute(command)
	result.Sequence = index
	if result.Code != dems.OK {
		result = dems.Result{Code: result.Code, Sequence: index}
	}
	if changes && command.Key != "" {
		m.keys = append(m.keys, modelKey{command.By, command.Key, request, result, m.now})
		if len(m.keys) > m.maxKeys {
			m.keys = m.keys[1:]
		}
	}
	return result
}

// endOfBatch forgets the keys that are older than a day.
func (m *model) endOfBatch() {
	for len(m.keys) > 0 && m.now.Sub(m.keys[0].stored) > 24*time.Hour {
		m.keys = m.keys[1:]
	}
}

func refused(code dems.Code) dems.Result { return dems.Result{Code: code} }

func (m *model) execute(c dems.Command) dems.Result {
	manager := c.By.String()[3] == 'M'
	switch c.Op.String() {
	case "addEvent", "removeEvent", "listEventAvailability", "getEvent":
		if !manager {
			return refused(dems.ForbiddenRole)
		}
	default:
		if !manager && c.By != c.Customer {
			return refused(dems.ForbiddenCustomer)
		}
	}
	switch c.Op {
	case dems.AddEvent, dems.RemoveEvent:
		if c.By.String()[:3] != c.Event.ID.String()[:3] {
			return refused(dems.ForbiddenCity)
		}
		if c.Op == dems.AddEvent {
			return m.add(c)
		}
		return m.remove(c)
	case dems.BookEvent:
		if code := m.bookable(m.bookings, c.Customer, c.Event); code != dems.OK {
			return refused(code)
		}
		m.bookings = append(m.bookings, modelBooking{c.Customer, c.Event})
		return dems.Result{Outcome: dems.Booked, Booking: c.Event, Customer: c.Customer}
	case dems.CancelEvent:
		return m.cancel(c)
	case dems.SwapEvent:
		return m.swap(c)
	case dems.GetBookingSchedule:
		return dems.Result{Customer: c.Customer, Bookings: m.schedule(c.Customer)}
	case dems.GetEvent:
		if e, found := m.events[c.Event.String()]; found {
			return dems.Result{Event: m.view(e)}
		}
		return refused(dems.EventNotFound)
	}
	return dems.Result{Type: c.Event.Type, Events: m.list(c.Event.Type)}
}

func (m *model) view(e modelEvent) dems.EventView {
	return dems.EventView{Key: e.key, Capacity: e.capacity, Booked: uint32(len(without(m.bookings, func(b modelBooking) bool {
		return b.event != e.key
	})))}
}

func without(bookings []modelBooking, unwanted func(modelBooking) bool) []modelBooking {
	return slices.DeleteFunc(slices.Clone(bookings), unwanted)
}

// bookable judges a booking on the bookings given: existence, duplicate, capacity, monthly limit.
func (m *model) bookable(bookings []modelBooking, customer dems.UserID, event dems.EventKey) dems.Code {
	e, found := m.events[event.String()]
	if !found {
		return dems.EventNotFound
	}
	seats, foreign, duplicate := 0, 0, false
	for _, b := range bookings {
		if b.event == event {
			seats++
			duplicate = duplicate || b.customer == customer
		}
		if b.customer == customer && b.event.ID.String()[:3] != customer.String()[:3] &&
			b.event.ID.String()[6:] == event.ID.String()[6:] { // mmyy
			foreign++
		}
	}
	switch {
	case duplicate:
		return dems.AlreadyBooked
	case seats >= int(e.capacity):
		return dems.EventFull
	case foreign >= 3 && event.ID.String()[:3] != customer.String()[:3]:
		return dems.MonthlyLimit
	}
	return dems.OK
}

func (m *model) add(c dems.Command) dems.Result {
	e, found := m.events[c.Event.String()]
	if found && m.view(e).Booked > c.Capacity {
		return refused(dems.CapacityBelowBooked)
	}
	e = modelEvent{c.Event, c.Capacity}
	m.events[c.Event.String()] = e
	if found {
		return dems.Result{Outcome: dems.Updated, Event: m.view(e)}
	}
	return dems.Result{Outcome: dems.Created, Event: m.view(e)}
}

func (m *model) remove(c dems.Command) dems.Result {
	e, found := m.events[c.Event.String()]
	if !found {
		return refused(dems.EventNotFound)
	}
	result := dems.Result{Outcome: dems.Removed, Event: m.view(e)}
	if result.Event.Booked > 0 && c.Bookings.String() == "refuse" {
		return refused(dems.HasBookings)
	}
	delete(m.events, c.Event.String())
	events := m.list(c.Event.Type)
	for _, b := range slices.Clone(m.bookings) {
		if b.event != c.Event {
			continue
		}
		m.bookings = without(m.bookings, func(other modelBooking) bool { return other == b })
		affected := dems.Affected{Customer: b.customer, Outcome: dems.Cancelled}
		if c.Bookings.String() == "rebook" {
			for _, later := range events {
				inCity := later.Key.ID.String()[:3] == c.Event.ID.String()[:3]
				if inCity && chronological(later.Key) > chronological(c.Event) && m.bookable(m.bookings, b.customer, later.Key) == dems.OK {
					m.bookings = append(m.bookings, modelBooking{b.customer, later.Key})
					affected.Outcome, affected.Event = dems.Rebooked, later.Key
					break
				}
			}
		}
		result.Affected = append(result.Affected, affected)
	}
	return result
}

func (m *model) cancel(c dems.Command) dems.Result {
	var held []dems.EventKey
	for _, b := range m.bookings {
		if b.customer == c.Customer && b.event.ID == c.Event.ID && (c.Event.Type == 0 || b.event.Type == c.Event.Type) {
			held = append(held, b.event)
		}
	}
	switch len(held) {
	case 0:
		return refused(dems.NotBooked)
	case 1:
		m.bookings = without(m.bookings, func(b modelBooking) bool { return b == modelBooking{c.Customer, held[0]} })
		return dems.Result{Outcome: dems.Cancelled, Booking: held[0], Customer: c.Customer}
	}
	return refused(dems.AmbiguousEventType)
}

func (m *model) swap(c dems.Command) dems.Result {
	old := modelBooking{c.Customer, c.OldEvent}
	if !slices.Contains(m.bookings, old) {
		return refused(dems.NotBooked)
	}
	if c.Event == c.OldEvent {
		return refused(dems.SameEvent)
	}
	left := without(m.bookings, func(b modelBooking) bool { return b == old })
	if code := m.bookable(left, c.Customer, c.Event); code != dems.OK {
		return refused(code)
	}
	m.bookings = append(left, modelBooking{c.Customer, c.Event})
	return dems.Result{Outcome: dems.Swapped, Booking: c.Event, Old: c.OldEvent, Customer: c.Customer}
}

// chronological returns text that sorts as events do: date, slot, city, type.
func chronological(key dems.EventKey) string {
	id := key.ID.String() // CCCSddmmyy
	slot := map[byte]string{'M': "1", 'A': "2", 'E': "3"}[id[3]]
	return id[8:10] + id[6:8] + id[4:6] + slot + id[:3] + key.Type.String()
}

func (m *model) list(eventType dems.EventType) []dems.EventView {
	var events []dems.EventView
	for _, e := range m.events {
		if e.key.Type == eventType {
			events = append(events, m.view(e))
		}
	}
	slices.SortFunc(events, func(a, b dems.EventView) int {
		return strings.Compare(chronological(a.Key), chronological(b.Key))
	})
	return events
}

func (m *model) schedule(customer dems.UserID) []dems.EventKey {
	var events []dems.EventKey
	for _, b := range m.bookings {
		if b.customer == customer {
			events = append(events, b.event)
		}
	}
	slices.SortFunc(events, func(a, b dems.EventKey) int { return strings.Compare(chronological(a), chronological(b)) })
	return events
}
