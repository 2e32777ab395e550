package traffic

import (
	"errors"
	"slices"
	"sync"
	"time"

	"dems"
)

// The calendar gives every group dates of its own, far from those of people.
//
// Unique events lie before all contended ones, so that no booking is ever moved to one of them. A contended group gets a span
// of some days of one month. The groups that follow each other on the same types and cities get ascending spans, so that what
// is left of a group lies before its successor, and nothing that exists lies after it: a removal with rebooking cannot leave its
// group. The months are free of everything that existed before, in all cities: so no customer has bookings in them, and the
// monthly limit depends on the group alone.
const (
	uniqueYear    = 2050
	contendedYear = 2070
	lastMonth     = 99*12 + 12 // December 2099, as dems.Date.MonthNumber counts
	spanDays      = 4
	spansOfMonth  = 7 // days 1 to 28, which every month has
	// leastMonths is how many months of rebooking have to be left after the last event that exists: more than an hour.
	leastMonths = 12
)

// calendar knows which dates are free. Its spans may be read by many at once.
type calendar struct {
	// months are those of contended groups, in ascending order.
	months []int
	// rebook: nothing lies later than these months, so bookings can be moved.
	rebook bool

	lock  sync.Mutex
	taken map[dems.EventKey]bool
	days  int       // of unique events
	first int       // where they begin, so that two drills with different seeds do not meet at once
	next  int       // how many dates of unique events were looked at
	pairs []pair    // that unique events have in turn
	zero  time.Time // day 0
}

// pair is a type and a city.
type pair struct {
	eventType dems.EventType
	city      dems.City
}

func (p pair) event(moment moment) dems.EventKey {
	return dems.EventKey{Type: p.eventType, ID: dems.EventID{City: p.city, Slot: moment.slot, Date: moment.date}}
}

// moment is when an event is.
type moment struct {
	date dems.Date
	slot dems.Slot
}

var errNoRoom = errors.New("traffic: there are events in every month from 2070 on; remove those that earlier drills and loads left behind")

// newCalendar returns the calendar of a run, given all events that exist.
func newCalendar(cities dems.Cities, existing []dems.EventKey, first int) (*calendar, error) {
	c := &calendar{taken: make(map[dems.EventKey]bool), zero: time.Date(uniqueYear, 1, 1, 0, 0, 0, 0, time.UTC)}
	c.days = int(time.Date(contendedYear, 1, 1, 0, 0, 0, 0, time.UTC).Sub(c.zero) / (24 * time.Hour))
	c.first = first % c.days
	for _, eventType := range dems.EventTypes {
		for _, city := range cities {
			c.pairs = append(c.pairs, pair{eventType, city.City})
		}
	}
	used, latest := make(map[int]bool), 0
	for _, key := range existing {
		c.taken[key] = true
		used[key.ID.Date.MonthNumber()] = true
		latest = max(latest, key.ID.Date.MonthNumber())
	}
	begin := dems.Date{Year: contendedYear - 2000, Month: 1}.MonthNumber()
	for month := begin; month <= lastMonth; month++ {
		if !used[month] {
			c.months = append(c.months, month)
		}
	}
	after := slices.DeleteFunc(slices.Clone(c.months), func(month int) bool { return month <= latest })
	if len(after) >= leastMonths {
		c.months, c.rebook = after, true
	}
	if len(c.months) == 0 {
		return nil, errNoRoom
	}
	return c, nil
}

// span returns the moments of a contended group, in order, by how many groups came before it on its types and cities.
func (c *calendar) span(before int) ([]moment, bool) {
	if before/spansOfMonth >= len(c.months) {
		return nil, false
	}
	month := c.months[before/spansOfMonth] - 1 // of year 0, counted from 0
	moments := make([]moment, 0, spanDays*int(dems.Evening))
	for day := range spanDays {
		date := dems.Date{Year: uint8(month / 12), Month: uint8(month%12 + 1), Day: uint8(before%spansOfMonth*spanDays + day + 1)}
		for slot := dems.Morning; slot <= dems.Evening; slot++ {
			moments = append(moments, moment{date, slot})
		}
	}
	return moments, true
}

// unique returns an event that neither exists nor was returned before. It is safe for concurrent use.
func (c *calendar) unique() (dems.EventKey, bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	ofDay := len(c.pairs) * int(dems.Evening)
	for c.next < c.days*ofDay {
		at := c.next
		c.next++
		date := c.zero.AddDate(0, 0, (c.first+at/ofDay)%c.days)
		key := c.pairs[at%len(c.pairs)].event(moment{
			date: dems.Date{Year: uint8(date.Year() - 2000), Month: uint8(date.Month()), Day: uint8(date.Day())},
			slot: dems.Morning + dems.Slot(at%ofDay/len(c.pairs)),
		})
		if !c.taken[key] {
			return key, true
		}
	}
	return dems.EventKey{}, false
}

// apportion gives types and cities to the contended crews, each its own: what one of them does is never seen in the others'. It
// returns as many shares as the cities allow, at most three; shuffle decides which types and cities are meant. With three cities
// the first share has all of them, and the others have the same city with two types, where one event ID exists twice.
func apportion(cities []dems.City, shuffle func(n int, swap func(i, j int))) [][]pair {
	types := slices.Clone(dems.EventTypes[:])
	cities = slices.Clone(cities)
	shuffle(len(types), func(i, j int) { types[i], types[j] = types[j], types[i] })
	shuffle(len(cities), func(i, j int) { cities[i], cities[j] = cities[j], cities[i] })
	plans := [][][][2]int{ // by number of cities: shares of {type, city}
		{},
		{{{0, 0}, {1, 0}, {2, 0}}},
		{{{0, 0}, {1, 0}, {2, 1}}, {{0, 1}, {1, 1}, {2, 0}}},
		{{{0, 0}, {1, 1}, {2, 2}}, {{1, 0}, {2, 0}, {0, 1}}, {{2, 1}, {0, 2}, {1, 2}}},
	}
	var shares [][]pair
	for _, plan := range plans[min(len(cities), len(plans)-1)] {
		var share []pair
		for _, choice := range plan {
			share = append(share, pair{types[choice[0]], cities[choice[1]]})
		}
		shares = append(shares, share)
	}
	return shares
}
