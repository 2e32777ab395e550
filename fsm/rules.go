package fsm

import "dems"

// The rules, in the order in which they are checked: syntax (Cities.Check) → role → city → customer → existence →
// duplicate → capacity → monthly limit. The first that fails is the answer.

// operate executes an operation whose syntax was checked. It fills result in; of a refusal, the code alone.
func (m *Machine) operate(command *dems.Command, result *dems.Result) {
	if result.Code = permit(command); result.Code != dems.OK {
		return
	}
	switch command.Op {
	case dems.AddEvent:
		result.Code = m.operateAddEvent(command, result)
	case dems.RemoveEvent:
		result.Code = m.operateRemoveEvent(command, result)
	case dems.BookEvent:
		result.Code = m.operateBookEvent(command, result)
	case dems.CancelEvent:
		result.Code = m.operateCancelEvent(command, result)
	case dems.SwapEvent:
		result.Code = m.operateSwapEvent(command, result)
	default:
		m.read(command, result)
	}
}

// permit checks role, city and customer.
func permit(command *dems.Command) dems.Code {
	op, by := command.Op, command.By
	switch {
	case op.ForManagers() && !by.IsManager():
		return dems.ForbiddenRole
	case (op == dems.AddEvent || op == dems.RemoveEvent) && by.City != command.Event.ID.City:
		return dems.ForbiddenCity
	case op.ForCustomer() && by.IsCustomer() && by != command.Customer:
		return dems.ForbiddenCustomer
	}
	return dems.OK
}

func (m *Machine) operateAddEvent(command *dems.Command, result *dems.Result) dems.Code {
	state, e := m.find(command.Event)
	switch {
	case e == nil:
		e = m.addEvent(state, command.Event, command.Capacity)
		result.Outcome = dems.Created
	case command.Capacity < e.booked():
		return dems.CapacityBelowBooked
	default:
		e = m.openEvent(state, e)
		e.capacity = command.Capacity
		m.closeEvent(state, e)
		result.Outcome = dems.Updated
	}
	result.Event = e.view()
	return dems.OK
}

func (m *Machine) operateBookEvent(command *dems.Command, result *dems.Result) dems.Code {
	state, e := m.find(command.Event)
	if e == nil {
		return dems.EventNotFound
	}
	c := m.customer(command.Customer)
	if code := bookable(e, command.Customer, c, dems.EventKey{}); code != dems.OK {
		return code
	}
	m.book(state, e, command.Customer, c)
	result.Outcome, result.Booking, result.Customer = dems.Booked, e.key, command.Customer
	return dems.OK
}

// bookable checks duplicate, capacity and monthly limit on the state that giving up the booking of except would leave.
func bookable(e *event, user dems.UserID, c *customer, except dems.EventKey) dems.Code {
	if _, held := c.number(e.key); held {
		return dems.AlreadyBooked
	}
	if e.full() {
		return dems.EventFull
	}
	if !c.withinLimit(user, e.key, except) {
		return dems.MonthlyLimit
	}
	return dems.OK
}

func (m *Machine) operateCancelEvent(command *dems.Command, result *dems.Result) dems.Code {
	c, key := m.customer(command.Customer), command.Event
	if key.Type == 0 {
		held := 0
		for _, eventType := range dems.EventTypes {
			candidate := dems.EventKey{Type: eventType, ID: key.ID}
			if _, found := c.number(candidate); found {
				key = candidate
				held++
			}
		}
		if held > 1 {
			return dems.AmbiguousEventType
		}
	}
	number, held := c.number(key)
	if !held {
		return dems.NotBooked
	}
	m.unbook(key, number, command.Customer, c)
	result.Outcome, result.Booking, result.Customer = dems.Cancelled, key, command.Customer
	return dems.OK
}

// operateSwapEvent has an order of its own: not booked, same event, existence, duplicate, capacity, monthly limit.
func (m *Machine) operateSwapEvent(command *dems.Command, result *dems.Result) dems.Code {
	user, c := command.Customer, m.customer(command.Customer)
	number, held := c.number(command.OldEvent)
	switch {
	case !held:
		return dems.NotBooked
	case command.Event == command.OldEvent:
		return dems.SameEvent
	}
	state, e := m.find(command.Event)
	if e == nil {
		return dems.EventNotFound
	}
	if code := bookable(e, user, c, command.OldEvent); code != dems.OK {
		return code
	}
	c = m.unbook(command.OldEvent, number, user, c)
	m.book(state, e, user, c)
	result.Outcome, result.Booking, result.Old, result.Customer = dems.Swapped, command.Event, command.OldEvent, user
	return dems.OK
}
