package traffic

import (
	"math/rand/v2"
	"sync/atomic"

	"dems"
)

const (
	uniqueCustomers = 40 // of a group, each of which books once
	uniqueSeats     = 30 // too few for all of them
	// Customers of unique groups have numbers above those of contended groups, so that each group's history is its own.
	firstUniqueCustomer = 4000
	numbers             = 9_000 // of customers of a city; higher ones are left to other clients
)

// unique is a group of one event that every one of its customers books once, and nobody cancels.
type unique struct {
	*group
	booked [uniqueCustomers]*task // what each customer asked for; nil: nothing was sent
	next   atomic.Int64           // customer who books next
	sent   atomic.Int64           // how many bookings were sent, or are about to be
}

// newUnique returns the group of an event that comes after before others. Its customers live in the event's city, where the
// monthly limit does not count.
func newUnique(g *group, event dems.EventKey, before int) *unique {
	g.own(event)
	g.customers = make([]dems.UserID, uniqueCustomers)
	for i := range g.customers {
		number := firstUniqueCustomer + (before*uniqueCustomers+i)%(numbers-firstUniqueCustomer)
		g.customers[i] = dems.UserID{City: event.ID.City, Role: dems.Customer, Number: uint16(number)}
	}
	g.unique = &unique{group: g}
	return g.unique
}

func (u *unique) event() dems.EventKey { return u.events[0] }

// asked returns how many customers may have asked for their booking up to now.
func (u *unique) asked() uint32 { return uint32(u.sent.Load()) }

// opening returns the command that makes the event.
func (u *unique) opening(random *rand.Rand) dems.Command {
	return dems.Command{Op: dems.AddEvent, By: aManager(u.event().ID.City, random), Event: u.event(), Capacity: uniqueSeats}
}

// booking returns the command by which a customer books, sometimes through a manager.
func (u *unique) booking(number int, random *rand.Rand) dems.Command {
	customer := u.customers[number]
	command := dems.Command{Op: dems.BookEvent, By: customer, Customer: customer, Event: u.event()}
	if random.IntN(8) == 0 {
		command.By = aManager(u.event().ID.City, random)
	}
	return command
}

// reading returns a read that shows the event, or the schedule of one of the customers that have booked or are about to.
func (u *unique) reading(random *rand.Rand) dems.Command {
	manager := aManager(u.event().ID.City, random)
	switch choice := random.IntN(16); {
	case choice == 0:
		return listing(manager, u.event().Type)
	case choice < 8:
		return dems.Command{Op: dems.GetEvent, By: manager, Event: u.event()}
	}
	customer := u.customers[random.IntN(min(int(u.next.Load())+1, uniqueCustomers))]
	return dems.Command{Op: dems.GetBookingSchedule, By: customer, Customer: customer}
}

// choose returns what a client asks for next: the booking of the customer with that number, or, where it is negative, a read. It
// returns false when all customers have booked.
func (u *unique) choose(random *rand.Rand) (command dems.Command, number int, ok bool) {
	if random.IntN(3) == 0 {
		return u.reading(random), -1, true
	}
	number = int(u.next.Add(1)) - 1
	if number >= uniqueCustomers {
		return dems.Command{}, -1, false
	}
	return u.booking(number, random), number, true
}
