package traffic

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"dems"
)

const (
	contendedCustomers = 9  // of a group
	momentsOfGroup     = 4  // each is an event of each type and city of the group
	mostSeats          = 4  // of a contended event
	customersOfTwins   = 2  // of a group, who book the same ID under two types
	managers           = 50 // of each city that ask
	// A crew's customers are counted through this many, so that they come again after many groups: in another month.
	customersOfCrew = 133 * contendedCustomers
)

// contended is a group that is fought over.
type contended struct {
	*group
	pairs  []pair
	cities []dems.City
	rebook bool                         // bookings of removed events may be moved
	begun  atomic.Int64                 // operations
	recent atomic.Pointer[dems.Command] // the last booking that was made; it may be gone again
	// disturbed: a list had events of somebody else to which bookings may have been moved.
	disturbed atomic.Bool
}

// newContended returns a group whose events are at some of the moments, each in all pairs.
func newContended(g *group, pairs []pair, moments []moment, customers []dems.UserID, random *rand.Rand) *contended {
	c := &contended{group: g, pairs: pairs}
	g.contended = c
	moments = slices.Clone(moments)
	random.Shuffle(len(moments), func(i, j int) { moments[i], moments[j] = moments[j], moments[i] })
	for _, moment := range moments[:momentsOfGroup] {
		for _, pair := range pairs {
			g.own(pair.event(moment))
		}
	}
	g.customers = customers
	for _, customer := range customers {
		if !slices.Contains(c.cities, customer.City) {
			c.cities = append(c.cities, customer.City)
		}
	}
	return c
}

// contendedCustomersOf returns the customers of the group that comes after before others of its crew: of all cities in turn.
func contendedCustomersOf(cities []dems.City, first, before int) []dems.UserID {
	customers := make([]dems.UserID, contendedCustomers)
	for i := range customers {
		number := first + (before*contendedCustomers+i)%customersOfCrew
		customers[i] = dems.UserID{City: cities[i%len(cities)], Role: dems.Customer, Number: uint16(number)}
	}
	return customers
}

// watch looks in a whole list for events of somebody else to which the group's bookings may be moved.
func (c *contended) watch(list []dems.EventView) {
	if !c.rebook || len(list) == 0 {
		return
	}
	first := slices.MinFunc(c.events, dems.EventKey.Compare)
	for _, view := range list {
		if slices.Contains(c.pairs, pair{view.Key.Type, view.Key.ID.City}) && view.Key.Compare(first) > 0 && !c.owns(view.Key) {
			c.disturbed.Store(true)
		}
	}
}

// opening returns the command that makes an event at the beginning.
func (c *contended) opening(event dems.EventKey, random *rand.Rand) dems.Command {
	return dems.Command{Op: dems.AddEvent, By: aManager(event.ID.City, random), Event: event, Capacity: 1 + random.Uint32N(mostSeats)}
}

// mix is how often what is asked for, so that successes and every refusal happen in every group. The weights are of a hundred.
var mix = []struct {
	weight int
	choose func(c *contended, random *rand.Rand) dems.Command
}{
	{23, (*contended).book},
	{11, (*contended).bookTwin},
	{9, (*contended).cancel},
	{9, (*contended).cancelUntyped},
	{14, (*contended).swap},
	{9, (*contended).add},
	{6, (*contended).remove},
	{7, (*contended).schedule},
	{5, (*contended).show},
	{2, (*contended).list},
	{5, (*contended).trespass},
}

// next chooses what a client asks for next.
func (c *contended) next(random *rand.Rand) dems.Command {
	at := random.IntN(100)
	for _, choice := range mix {
		if at < choice.weight {
			return choice.choose(c, random)
		}
		at -= choice.weight
	}
	return c.book(random) // the weights are a hundred together
}

func (c *contended) event(random *rand.Rand) dems.EventKey {
	return c.events[random.IntN(len(c.events))]
}

// customer returns any customer, the first ones more often: so some are at their monthly limit.
func (c *contended) customer(random *rand.Rand) dems.UserID {
	return c.customers[min(random.IntN(len(c.customers)), random.IntN(len(c.customers)))]
}

// forCustomer returns a command for any customer, asked for by that customer or, less often, by any manager.
func (c *contended) forCustomer(op dems.Op, random *rand.Rand) dems.Command {
	customer := c.customer(random)
	command := dems.Command{Op: op, By: customer, Customer: customer, Event: c.event(random)}
	if random.IntN(4) == 0 {
		command.By = aManager(c.cities[random.IntN(len(c.cities))], random)
	}
	return command
}

func (c *contended) book(random *rand.Rand) dems.Command {
	return c.forCustomer(dems.BookEvent, random)
}

// bookTwin books an event that has a twin, where the group has such ones.
func (c *contended) bookTwin(random *rand.Rand) dems.Command {
	return c.aboutTwin(c.book(random), random)
}

// aboutTwin makes a command one about one of a few events and a few customers, so that some hold two events of one ID.
func (c *contended) aboutTwin(command dems.Command, random *rand.Rand) dems.Command {
	twins := c.twins()
	if len(twins) == 0 {
		return command
	}
	command.Event = twins[random.IntN(len(twins))]
	bySelf := command.By == command.Customer
	if command.Customer = c.customers[random.IntN(customersOfTwins)]; bySelf {
		command.By = command.Customer
	}
	return command
}

// twins returns events of one ID and different types; none where the group has no such ones.
func (c *contended) twins() []dems.EventKey {
	for _, first := range c.events {
		twins := slices.DeleteFunc(slices.Clone(c.events), func(key dems.EventKey) bool { return key.ID != first.ID })
		if len(twins) > 1 {
			return twins
		}
	}
	return nil
}

// learn remembers what was booked, so that bookings are found to cancel and to swap.
func (c *contended) learn(t *task) {
	if t.verdict == answered && t.result.Code == dems.OK && (t.command.Op == dems.BookEvent || t.command.Op == dems.SwapEvent) {
		c.recent.Store(&t.command)
	}
}

// held returns a command for a customer and an event that the customer may have booked.
func (c *contended) held(op dems.Op, random *rand.Rand) dems.Command {
	command := c.forCustomer(op, random)
	if recent := c.recent.Load(); recent != nil && random.IntN(2) == 0 {
		if command.By == command.Customer {
			command.By = recent.Customer
		}
		command.Customer, command.Event = recent.Customer, recent.Event
	}
	return command
}

func (c *contended) cancel(random *rand.Rand) dems.Command { return c.held(dems.CancelEvent, random) }

func (c *contended) cancelUntyped(random *rand.Rand) dems.Command {
	command := c.cancel(random)
	if random.IntN(3) == 0 {
		command = c.aboutTwin(command, random)
	}
	command.Event.Type = 0
	return command
}

func (c *contended) swap(random *rand.Rand) dems.Command {
	command := c.held(dems.SwapEvent, random)
	command.OldEvent, command.Event = command.Event, c.event(random)
	if random.IntN(4) == 0 {
		command.Event = command.OldEvent
	}
	return command
}

func (c *contended) add(random *rand.Rand) dems.Command { return c.opening(c.event(random), random) }

func (c *contended) remove(random *rand.Rand) dems.Command {
	event := c.event(random)
	policies := []dems.BookingPolicy{dems.Refuse, dems.CancelBookings, dems.Rebook, dems.Rebook}
	policy := policies[random.IntN(len(policies))]
	if policy == dems.Rebook && !c.rebook {
		policy = dems.CancelBookings
	}
	return dems.Command{Op: dems.RemoveEvent, By: aManager(event.ID.City, random), Event: event, Bookings: policy}
}

func (c *contended) schedule(random *rand.Rand) dems.Command {
	command := c.forCustomer(dems.GetBookingSchedule, random)
	command.Event = dems.EventKey{}
	return command
}

func (c *contended) show(random *rand.Rand) dems.Command {
	return dems.Command{Op: dems.GetEvent, By: aManager(c.cities[random.IntN(len(c.cities))], random), Event: c.event(random)}
}

func (c *contended) list(random *rand.Rand) dems.Command {
	return listing(aManager(c.cities[random.IntN(len(c.cities))], random), c.pairs[random.IntN(len(c.pairs))].eventType)
}

// trespass returns a command that the one who asks may not ask for.
func (c *contended) trespass(random *rand.Rand) dems.Command {
	one := func(choices ...func(*rand.Rand) dems.Command) dems.Command {
		return choices[random.IntN(len(choices))](random)
	}
	at := random.IntN(len(c.customers))
	somebody, other := c.customers[at], c.customers[(at+1)%len(c.customers)]
	switch random.IntN(3) {
	case 0: // a manager of another city
		command := one(c.add, c.remove)
		if at := slices.IndexFunc(c.cities, func(city dems.City) bool { return city != command.Event.ID.City }); at >= 0 {
			command.By = aManager(c.cities[at], random)
		}
		return command
	case 1: // another customer
		command := one(c.book, c.cancel, c.swap, c.schedule)
		if command.By = somebody; somebody == command.Customer {
			command.By = other
		}
		return command
	}
	command := one(c.add, c.remove, c.show, c.list)
	command.By = somebody
	return command
}

// aManager returns any manager of a city. They share no idempotency keys, so it does not matter who asks.
func aManager(city dems.City, random *rand.Rand) dems.UserID {
	return dems.UserID{City: city, Role: dems.Manager, Number: uint16(1 + random.IntN(managers))}
}

func listing(by dems.UserID, eventType dems.EventType) dems.Command {
	return dems.Command{Op: dems.ListEventAvailability, By: by, Event: dems.EventKey{Type: eventType}}
}
