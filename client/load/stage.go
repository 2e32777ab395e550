package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"dems"
	"dems/client"
)

const (
	setupParallel = 16       // requests at once before and after the load
	minimumSeeded = 100      // bookings made beforehand where there are reads
	managerNumber = 1        // of each city's manager who makes the events
	firstYear     = 2050     // events of a load are far from those of people
	days          = 365 * 49 // from firstYear on
	// customerStride is how far the first customers of two events are apart: a prime, so that many events share few.
	customerStride = 7919
)

// stage is the events of one load and how far each has been used.
type stage struct {
	api       *client.Client
	run       string // what all keys of this load begin with
	customers uint64
	events    []*event
	seeded    []booking // made beforehand, for reads; never cancelled
}

// event is an event of the load. Its home customers book it one after the other, from the first that has not booked it
// beforehand; then they cancel in the same order, and so on. Every event begins with another customer, so that bookings
// are spread over the customers as they are in life.
type event struct {
	key   dems.EventKey
	first uint64 // number of its first customer
	base  uint64 // how many customers have booked it beforehand
	next  atomic.Uint64

	foreign bool // somebody else made it at the same moment: not to be removed
}

// booking is a customer's booking of an event.
type booking struct {
	customer dems.UserID
	event    dems.EventKey
}

// prepare makes the events of a load and, where there are reads, bookings to read. What it returns is to be cleared away,
// after an error as well.
func prepare(ctx context.Context, config Config, api *client.Client, random *rand.Rand) (*stage, error) {
	s := &stage{api: api, run: client.NewKey()[:12], customers: uint64(config.Customers)}
	registry, err := api.Registry(ctx)
	if err != nil {
		return s, fmt.Errorf("load: the cities cannot be learned from the registry: %w", err)
	}
	if len(registry.Cities) == 0 {
		return s, fmt.Errorf("load: the registry knows no cities")
	}
	taken, err := existing(ctx, api.As(manager(registry.Cities[0].City)))
	if err != nil {
		return s, err
	}
	for i, key := range freeEvents(registry.Cities, taken, config.Events, random.IntN(days)) {
		s.events = append(s.events, &event{key: key, first: uint64(i) * customerStride % s.customers})
	}
	// What has been sent is waited for, whatever happens: an event that is made after it was cleared away would stay.
	group, groupContext := errgroup.WithContext(ctx)
	patient := context.WithoutCancel(ctx)
	group.SetLimit(setupParallel)
	for _, event := range s.events {
		group.Go(func() error {
			if err := groupContext.Err(); err != nil {
				return err
			}
			added, err := api.As(manager(event.key.ID.City)).AddEvent(patient, event.key, dems.MaxCapacity)
			if err == nil && added.Outcome != "created" {
				event.foreign = true
				return fmt.Errorf("%s was made by somebody else at this moment", event.key)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return s, fmt.Errorf("load: the events cannot be made: %w", err)
	}
	if config.Mix == Book {
		return s, nil
	}
	return s, s.seed(ctx)
}

// existing returns every event that there is.
func existing(ctx context.Context, api *client.Client) (map[dems.EventKey]bool, error) {
	taken := make(map[dems.EventKey]bool)
	for _, eventType := range dems.EventTypes {
		listed, err := api.ListEventAvailability(ctx, eventType)
		if err != nil {
			return nil, fmt.Errorf("load: the events that exist cannot be listed: %w", err)
		}
		for _, event := range listed.Events {
			taken[event.Key()] = true
		}
	}
	return taken, nil
}

// freeEvents returns events that do not exist, spread over cities and types, on as few days as possible from a day on.
func freeEvents(cities dems.Cities, taken map[dems.EventKey]bool, count, firstDay int) []dems.EventKey {
	var free []dems.EventKey
	for day := range days {
		date := time.Date(firstYear, 1, 1+(firstDay+day)%days, 0, 0, 0, 0, time.UTC)
		for slot := dems.Morning; slot <= dems.Evening; slot++ {
			for _, eventType := range dems.EventTypes {
				for _, city := range cities {
					key := dems.EventKey{Type: eventType, ID: dems.EventID{City: city.City, Slot: slot, Date: dems.Date{
						Year: uint8(date.Year() - 2000), Month: uint8(date.Month()), Day: uint8(date.Day()),
					}}}
					if len(free) == count {
						return free
					}
					if !taken[key] {
						free = append(free, key)
					}
				}
			}
		}
	}
	return free
}

// seed makes bookings, some of each event.
func (s *stage) seed(ctx context.Context) error {
	group, groupContext := errgroup.WithContext(ctx)
	group.SetLimit(setupParallel)
	for number := range max(len(s.events), minimumSeeded) {
		event := s.events[number%len(s.events)]
		if event.base >= max(s.customers/2, 1) {
			continue // the others are for the load
		}
		made := booking{customer: s.customer(event, event.base), event: event.key}
		event.base++
		s.seeded = append(s.seeded, made)
		group.Go(func() error {
			_, err := s.api.As(made.customer).BookEvent(groupContext, made.customer, made.event)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("load: the bookings to read cannot be made: %w", err)
	}
	return nil
}

// clear removes the events with their bookings. One that was not made after all is no error.
func (s *stage) clear(ctx context.Context, api *client.Client) error {
	group, groupContext := errgroup.WithContext(ctx)
	group.SetLimit(setupParallel / 2)
	for _, event := range s.events {
		if event.foreign {
			continue
		}
		group.Go(func() error {
			_, err := api.As(manager(event.key.ID.City)).RemoveEvent(groupContext, event.key, dems.CancelBookings)
			if dems.CodeOf(err) == dems.EventNotFound {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("load: the events cannot be removed: %w", err)
	}
	return nil
}

func manager(city dems.City) dems.UserID {
	return dems.UserID{City: city, Role: dems.Manager, Number: managerNumber}
}

// customer returns the home customer who books an event after number others.
func (s *stage) customer(event *event, number uint64) dems.UserID {
	return homeCustomer(event.key, (event.first+number)%s.customers)
}

// homeCustomer returns a customer of an event's city: home bookings have no monthly limit.
func homeCustomer(event dems.EventKey, number uint64) dems.UserID {
	return dems.UserID{City: event.ID.City, Role: dems.Customer, Number: uint16(number % maxCustomers)}
}
