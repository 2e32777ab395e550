package fsm

import (
	"strconv"
	"time"

	"dems"
)

// A small world, in which random commands meet often: three cities with a few users, a few dates within and across
// months.

func (c *comparison) city() dems.City {
	cities := c.first.Cities()
	return cities[c.random.IntN(len(cities))].City
}

func (c *comparison) manager() dems.UserID {
	return dems.UserID{City: c.city(), Role: dems.Manager, Number: uint16(c.random.IntN(2))}
}

func (c *comparison) customer() dems.UserID {
	return dems.UserID{City: c.city(), Role: dems.Customer, Number: uint16(c.random.IntN(6))}
}

func (c *comparison) event() dems.EventKey {
	dates := []dems.Date{{Year: 19, Month: 5, Day: 10}, {Year: 19, Month: 5, Day: 31}, {Year: 19, Month: 6, Day: 1}, {Year: 20, Month: 5, Day: 10}}
	return dems.EventKey{
		Type: dems.EventTypes[c.random.IntN(2)+c.random.IntN(2)],
		ID:   dems.EventID{City: c.city(), Slot: dems.Slot(c.random.IntN(3) + 1), Date: dates[c.random.IntN(len(dates))]},
	}
}

// bookedEvent returns an event that the customer has booked, where there is one.
func (c *comparison) bookedEvent(customer dems.UserID) dems.EventKey {
	if booked := c.model.schedule(customer); len(booked) > 0 {
		return booked[c.random.IntN(len(booked))]
	}
	return c.event()
}

// command returns a random command. Most are possible; some are not permitted, and a few are malformed.
func (c *comparison) command() dems.Command {
	c.now = c.now.Add(time.Duration(c.random.IntN(120_000)-30_000) * time.Millisecond)
	if c.random.IntN(300) == 0 {
		c.now = c.now.Add(time.Duration(c.random.IntN(30)) * time.Hour)
	}
	if len(c.keyed) > 0 && c.random.IntN(15) == 0 { // a client that got no answer asks again
		command := c.keyed[c.random.IntN(len(c.keyed))]
		command.Time = c.now
		return command
	}
	command := c.operation()
	command.Time = c.now
	if c.random.IntN(4) == 0 {
		command.Key = "key " + strconv.Itoa(c.random.IntN(40))
		if c.random.IntN(50) != 0 {
			command.Key = command.Key[4:] // without the blank, which no key has
		}
	}
	if c.random.IntN(30) == 0 {
		c.malform(&command)
	}
	if command.Key != "" {
		c.keyed = append(c.keyed, command)[max(0, len(c.keyed)-2*comparedKeys):]
	}
	return command
}

func (c *comparison) operation() dems.Command {
	customer := c.customer()
	by := customer
	switch c.random.IntN(10) {
	case 0:
		by = c.customer()
	case 1, 2:
		by = c.manager()
	}
	command := dems.Command{By: by, Customer: customer, Event: c.event()}
	switch roll := c.random.IntN(100); {
	case roll < 18:
		command.Op, command.Customer, command.Capacity = dems.AddEvent, dems.UserID{}, uint32(1+c.random.IntN(5))
		command.By = c.managerOf(command.Event)
	case roll < 24:
		command.Op, command.Customer, command.Bookings = dems.RemoveEvent, dems.UserID{}, dems.BookingPolicy(c.random.IntN(3))
		command.By = c.managerOf(command.Event)
	case roll < 65:
		command.Op = dems.BookEvent
	case roll < 78:
		command.Op, command.Event = dems.CancelEvent, c.bookedEvent(customer)
		if c.random.IntN(2) == 0 {
			command.Event.Type = 0
		}
	case roll < 94:
		command.Op, command.OldEvent = dems.SwapEvent, c.bookedEvent(customer)
		if c.random.IntN(20) == 0 {
			command.Event = command.OldEvent
		}
	case roll < 96:
		command.Op, command.Event = dems.GetBookingSchedule, dems.EventKey{}
	case roll < 98:
		command.Op, command.Customer, command.By = dems.GetEvent, dems.UserID{}, c.manager()
	default:
		command.Op, command.Customer, command.By = dems.ListEventAvailability, dems.UserID{}, c.manager()
		command.Event.ID = dems.EventID{}
	}
	return command
}

// managerOf returns, mostly, a manager of the event's city.
func (c *comparison) managerOf(event dems.EventKey) dems.UserID {
	switch c.random.IntN(20) {
	case 0:
		return c.manager()
	case 1:
		return c.customer()
	}
	return dems.UserID{City: event.ID.City, Role: dems.Manager, Number: uint16(c.random.IntN(2))}
}

// malform damages a part of a command, whether or not its operation has that part.
func (c *comparison) malform(command *dems.Command) {
	switch c.random.IntN(9) {
	case 0:
		command.By.City = dems.City{'X', 'Y', 'Z'}
	case 1:
		command.By.Number = 10_000
	case 2:
		command.By.Role = 'X'
	case 3:
		command.Event.ID.Slot = 9
	case 4:
		command.Event.ID.Date.Day = 32
	case 5:
		command.Event.Type = 7
	case 6:
		command.OldEvent.ID.City = dems.City{'"', 0, 0xff}
	case 7:
		command.Capacity = 0
	case 8:
		command.Key = "no key\n"
	}
}
