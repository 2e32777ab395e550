package traffic

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"dems"
)

func citiesOf(codes ...string) dems.Cities {
	var cities dems.Cities
	for _, code := range codes {
		city, _ := dems.ParseCity(code)
		cities = append(cities, dems.NamedCity{City: city, Name: code})
	}
	return cities
}

func eventOn(t interface{ Fatalf(string, ...any) }, id string) dems.EventKey {
	parsed, ok := dems.ParseEventID(id)
	if !ok {
		t.Fatalf("%s is no event ID", id)
	}
	return dems.EventKey{Type: dems.Seminar, ID: parsed}
}

// TestSpans: the groups that follow each other have dates of their own, each within a month, in ascending order.
func TestSpans(t *testing.T) {
	c, err := newCalendar(dems.DefaultCities(), nil, 0)
	if err != nil || !c.rebook {
		t.Fatal(err, c)
	}
	last, groups := dems.Date{Year: contendedYear - 2001, Month: 12, Day: 31}, 0
	for ; ; groups++ {
		moments, ok := c.span(groups)
		if !ok {
			break
		}
		if len(moments) != spanDays*3 || moments[0].date == last {
			t.Fatalf("group %d: %v after %v", groups, moments, last)
		}
		before := dems.EventKey{Type: 1, ID: dems.EventID{Date: last, Slot: dems.Evening}}
		for _, m := range moments {
			now := pair{dems.Conference, dems.City{}}.event(m)
			if now.Compare(before) <= 0 || m.date.MonthNumber() != moments[0].date.MonthNumber() {
				t.Fatalf("group %d: %v", groups, moments)
			}
			if id := (pair{dems.Conference, dems.City{'T', 'O', 'R'}}).event(m).ID; eventOn(t, id.String()).ID != id {
				t.Fatalf("%v is no date", m)
			}
			before = now
		}
		last = moments[len(moments)-1].date
	}
	if groups != 30*12*spansOfMonth {
		t.Errorf("%d groups", groups)
	}
}

func TestDatesAvoidWhatExists(t *testing.T) {
	for name, test := range map[string]struct {
		existing []string
		rebook   bool
		first    string // the first moment of the first group
	}{
		"nothing":                        {nil, true, "M010170"},
		"only the past":                  {[]string{"TORM100519"}, true, "M010170"},
		"where contended groups begin":   {[]string{"TORM010170"}, true, "M010270"},
		"a drill that was killed":        {[]string{"TORM010170", "MTLE310371"}, true, "M010471"},
		"the last month with room after": {[]string{"TORM311298"}, true, "M010199"},
		"too late for rebooking":         {[]string{"TORM010199"}, false, "M010170"},
		"late, and at the beginning":     {[]string{"TORM050170", "TORM311299"}, false, "M010270"},
	} {
		t.Run(name, func(t *testing.T) {
			var existing []dems.EventKey
			for _, id := range test.existing {
				existing = append(existing, eventOn(t, id))
			}
			c, err := newCalendar(dems.DefaultCities(), existing, 0)
			if err != nil {
				t.Fatal(err)
			}
			moments, ok := c.span(0)
			if want := eventOn(t, "TOR"+test.first); !ok || c.rebook != test.rebook || (pair{dems.Seminar, want.ID.City}).event(moments[0]) != want {
				t.Errorf("rebook %t, %v", c.rebook, moments)
			}
			months := make(map[int]bool)
			for _, key := range existing {
				months[key.ID.Date.MonthNumber()] = true
			}
			for groups := 0; ; groups++ {
				moments, ok := c.span(groups)
				if !ok {
					break
				}
				if months[moments[0].date.MonthNumber()] {
					t.Fatalf("group %d is in a month with other events: %v", groups, moments)
				}
			}
		})
	}
}

func TestNoRoom(t *testing.T) {
	var existing []dems.EventKey
	for month := 70*12 + 1; month <= lastMonth; month++ {
		existing = append(existing, dems.EventKey{Type: dems.Seminar, ID: dems.EventID{
			City: dems.City{'T', 'O', 'R'}, Slot: dems.Morning, Date: dems.Date{Year: uint8((month - 1) / 12), Month: uint8((month-1)%12 + 1), Day: 1},
		}})
	}
	if _, err := newCalendar(dems.DefaultCities(), existing, 0); !errors.Is(err, errNoRoom) {
		t.Errorf("%v", err)
	}
	if c, err := newCalendar(dems.DefaultCities(), existing[1:], 0); err != nil || len(c.months) != 1 || c.rebook {
		t.Errorf("%v", err)
	}
}

// TestUniqueEvents: all of them are different, free, and earlier than every contended one.
func TestUniqueEvents(t *testing.T) {
	first, err := newCalendar(dems.DefaultCities(), nil, 10_950)
	if err != nil {
		t.Fatal(err)
	}
	var existing []dems.EventKey
	for range 50 {
		key, _ := first.unique()
		existing = append(existing, key)
	}
	c, err := newCalendar(dems.DefaultCities(), existing, 10_950)
	if err != nil {
		t.Fatal(err)
	}
	seen, pairs := make(map[dems.EventKey]bool), make(map[pair]int)
	for _, key := range existing {
		seen[key] = true
	}
	for {
		key, ok := c.unique()
		if !ok {
			break
		}
		if parsed, ok := dems.ParseEventID(key.ID.String()); seen[key] || !ok || parsed != key.ID || key.ID.Date.Year < uniqueYear-2000 ||
			key.ID.Date.Year >= contendedYear-2000 {
			t.Fatalf("%s", key)
		}
		seen[key] = true
		pairs[pair{key.Type, key.ID.City}]++
	}
	if want := c.days * 27; len(seen) != want || len(pairs) != 9 {
		t.Errorf("%d events, want %d; pairs %v", len(seen), want, pairs)
	}
}

// TestApportion: no two crews have a type and a city in common, whatever cities there are.
func TestApportion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var cities []dems.City
		for number := range rapid.IntRange(1, 8).Draw(t, "cities") {
			cities = append(cities, dems.City{'A', 'A', 'A' + byte(number)})
		}
		seed := rapid.Uint64().Draw(t, "seed")
		shares := apportion(cities, rand.New(rand.NewPCG(seed, 0)).Shuffle)
		if len(shares) != min(len(cities), 3) {
			t.Fatalf("%d shares for %d cities", len(shares), len(cities))
		}
		taken, all, twins := make(map[pair]bool), 0, 0
		for _, share := range shares {
			in := make(map[dems.City]int)
			for _, p := range share {
				if taken[p] || !slices.Contains(cities, p.city) || p.eventType.String() == "" {
					t.Fatalf("%v in %v", p, shares)
				}
				taken[p] = true
				in[p.city]++
			}
			if len(share) != 3 {
				t.Fatalf("%v", share)
			}
			if len(in) == 3 {
				all++
			}
			if len(in) < 3 {
				twins++
			}
		}
		if twins == 0 || len(cities) >= 3 && all != 1 {
			t.Fatalf("%v: %d with all cities, %d with two types in one", shares, all, twins)
		}
		if again := apportion(cities, rand.New(rand.NewPCG(seed, 0)).Shuffle); !slices.EqualFunc(again, shares, slices.Equal) {
			t.Fatalf("%v, then %v", shares, again)
		}
	})
}

// TestCustomersOfContendedGroups: whoever is in two groups of one month is in none of another crew.
func TestCustomersOfContendedGroups(t *testing.T) {
	for _, cities := range []dems.Cities{citiesOf("TOR"), citiesOf("MTL", "TOR"), dems.DefaultCities()} {
		var codes []dems.City
		for _, named := range cities {
			codes = append(codes, named.City)
		}
		type month struct {
			customer dems.UserID
			month    int
		}
		c, err := newCalendar(cities, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		owners := make(map[month][2]int)
		for crew := range 3 {
			for before := 0; ; before++ {
				moments, ok := c.span(before)
				if !ok {
					break
				}
				customers := contendedCustomersOf(codes, crew*customersOfCrew, before)
				for i, customer := range customers {
					key := month{customer, moments[0].date.MonthNumber()}
					if owner, owned := owners[key]; owned {
						t.Fatalf("%v is in group %v and %d of crew %d", key, owner, before, crew)
					}
					owners[key] = [2]int{crew, before}
					if customer.Number >= firstUniqueCustomer || slices.Contains(customers[:i], customer) || !customer.IsCustomer() {
						t.Fatalf("%v", customers)
					}
				}
			}
		}
	}
}

// TestCustomersOfUniqueGroups: they are of the event's city, different, and never those of contended groups.
func TestCustomersOfUniqueGroups(t *testing.T) {
	event := eventOn(t, "MTLM010150")
	used := make(map[uint16]bool)
	for before := range 1000 {
		g := newUnique(newGroup(before), event, before)
		for i, customer := range g.customers {
			if customer.City != event.ID.City || !customer.IsCustomer() || customer.Number < firstUniqueCustomer || customer.Number >= numbers ||
				slices.Contains(g.customers[:i], customer) {
				t.Fatalf("group %d: %v", before, g.customers)
			}
			used[customer.Number] = true
		}
	}
	if len(used) != numbers-firstUniqueCustomer {
		t.Errorf("%d customers take part", len(used))
	}
}
