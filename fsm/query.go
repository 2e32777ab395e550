package fsm

import (
	"slices"

	"dems"

	"github.com/tidwall/btree"
)

// Query answers a read. It changes nothing. The version of the answer is the index of the last entry that touched what
// it depends on:
//
//   - a schedule: the last one that touched a booking of the customer; 0 if none ever did
//   - one event: the last one that touched it; if there is no such event, the last one that added or removed any event
//     of the type in the city
//   - a list: the last one that touched any event of the type
//   - the registry: its last change
//   - the incidents: the last one
//   - a refusal that does not depend on the state (syntax, role, another customer): 0
//
// Two states in which an answer has the same version give the same answer: whatever changes an answer raises its
// version, and one index stands for one state.
func (m *Machine) Query(q *dems.Query) dems.Answer {
	switch q.Kind {
	case dems.RegistryQuery:
		registry := m.Registry()
		return dems.Answer{Version: m.registry.version, Result: dems.AppendRegistry(nil, &registry)}
	case dems.IncidentsQuery:
		return dems.Answer{Version: m.cluster.lastIncident(), Result: dems.AppendIncidents(nil, m.Incidents(q.From))}
	}
	var result dems.Result
	var version uint64
	result.Code = m.cities.Check(&q.Command)
	if q.Kind != dems.OperationQuery || q.Command.Op.Mutates() {
		result.Code = dems.MalformedRequest
	}
	if result.Code == dems.OK {
		if result.Code = permit(&q.Command); result.Code == dems.OK {
			version = m.read(&q.Command, &result)
		}
	}
	return dems.Answer{Version: version, Result: dems.AppendResults(nil, []dems.Result{result})}
}

// read executes a reading operation that is permitted and returns the version of its answer.
func (m *Machine) read(command *dems.Command, result *dems.Result) uint64 {
	switch command.Op {
	case dems.ListEventAvailability:
		result.Type = command.Event.Type
		result.Events = m.list(command.Event.Type)
		return m.typeVersions[command.Event.Type]
	case dems.GetBookingSchedule:
		result.Customer = command.Customer
		c := m.customer(command.Customer)
		if c == nil {
			return 0
		}
		result.Bookings = c.schedule()
		return c.version
	case dems.GetEvent:
		state, e := m.find(command.Event)
		if e == nil {
			result.Code = dems.EventNotFound
			return state.membership[command.Event.Type]
		}
		result.Event = e.view()
		return e.version
	}
	result.Code = dems.MalformedRequest
	return 0
}

// schedule returns the events that a customer has booked, in chronological order.
func (c *customer) schedule() []dems.EventKey {
	schedule := make([]dems.EventKey, 0, c.bookings.Len())
	c.bookings.Scan(func(order, _ uint64) bool {
		schedule = append(schedule, dems.EventKeyFromOrder(order))
		return true
	})
	return schedule
}

// list returns every city's events of a type in chronological order.
func (m *Machine) list(eventType dems.EventType) []dems.EventView {
	count := 0
	for i := range m.states {
		count += m.states[i].events[eventType].Len()
	}
	events := make([]dems.EventView, 0, count)
	var heads []btree.MapIter[uint64, *event] // of the cities that have more events
	for i := range m.states {
		if head := m.states[i].events[eventType].Iter(); head.First() {
			heads = append(heads, head)
		}
	}
	for len(heads) > 0 {
		first := 0
		for i := range heads {
			if heads[i].Key() < heads[first].Key() {
				first = i
			}
		}
		events = append(events, heads[first].Value().view())
		if !heads[first].Next() {
			heads = slices.Delete(heads, first, first+1)
		}
	}
	return events
}
