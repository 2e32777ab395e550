// Package linearizability checks what clients saw: whether there is an order in which each operation takes effect at one instant
// between its call and its return, so that the rules explain every answer. It owns the rules as a model of its own, the search,
// which is Porcupine's, and what people are told about a history that no order explains. It knows nothing of the servers, and
// reads no files. Check starts goroutines and waits for them.
//
// A history is checked group by group: what happens in one group changes no answer in another one, and a history is
// linearizable if each group's is. That is so only if groups share no event, and no customer whose limit of a month or whose
// events of one ID they have in common, and if no booking of a removed event could move to an event of another group: whoever
// makes the traffic sees to it.
//
// The search is quick where the log's order explains the answers, even among hundreds of operations of a group; what makes it
// long is operations whose outcome stays unknown. Within the default bounds a group of 300 operations by 8 clients bears about
// 30 of those, and one that is wrong about 15.
package linearizability

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"dems"
	"dems/client/drill/history"
)

// Options bound a check. The zero value of each means the default.
type Options struct {
	GroupTimeout time.Duration // for each search in one group, of which there are at most two; default 10 s
	Timeout      time.Duration // for all groups; default 2 min. To explain violations takes at most a quarter of it more
	Workers      int           // groups that are checked at once; default, and at most, GOMAXPROCS
	MemoryBytes  int64         // about what all searches together may remember; default 1 GiB
}

const (
	defaultGroupTimeout = 10 * time.Second
	defaultTimeout      = 2 * time.Minute
	defaultMemoryBytes  = 1 << 30
)

// MostExplained is how many violations are explained; of further ones only the group is told.
const MostExplained = 10

// Result is what a check found. A history is linearizable if there is neither a violation nor anything undecided.
type Result struct {
	Groups     int // all that have operations
	Operations int // in them
	Violations []Violation
	Undecided  []Undecided
	Duration   time.Duration
}

// Undecided is a group of which nothing is known.
type Undecided struct {
	Group      int
	Operations int
	Unknown    int // of them, those whose outcome is unknown
	Reason     string
}

// String returns a sentence for people.
func (u Undecided) String() string {
	return fmt.Sprintf("Group %d, with %d operations of which %d have an unknown outcome, could not be decided: %s.",
		u.Group, u.Operations, u.Unknown, u.Reason)
}

// Check checks a history. When ctx is done, or the time is up, the groups that are left are undecided. The operations are not
// changed, and must not be while it runs.
func Check(ctx context.Context, operations []history.Operation, options Options) Result {
	began := time.Now()
	options = options.withDefaults()
	timed, cancel := context.WithTimeout(ctx, options.Timeout)
	defer cancel()
	groups := split(operations)
	shared := sharing(groups)
	findings := make([]finding, len(groups))
	places := make(chan int)
	var workers sync.WaitGroup
	for range min(options.Workers, len(groups)) {
		workers.Go(func() {
			for i := range places {
				if findings[i].reason = shared[groups[i].number]; findings[i].reason == "" {
					findings[i] = groups[i].check(timed, options)
				}
			}
		})
	}
	for i := range groups {
		places <- i
	}
	close(places)
	workers.Wait()
	explaining, cancelExplaining := context.WithTimeout(ctx, options.Timeout/4)
	defer cancelExplaining()
	result := Result{Groups: len(groups), Operations: len(operations)}
	for i, g := range groups {
		switch found := findings[i]; {
		case found.reason != "":
			result.Undecided = append(result.Undecided, g.undecided(found.reason))
		case found.verdict == unexplained:
			v := Violation{Group: g.number, AlongLog: found.alongLog}
			if len(result.Violations) < MostExplained {
				v.explain(explaining, g, options)
			}
			result.Violations = append(result.Violations, v)
		}
	}
	result.Duration = time.Since(began)
	return result
}

func (o Options) withDefaults() Options {
	o.GroupTimeout = cmp.Or(o.GroupTimeout, defaultGroupTimeout)
	o.Timeout = cmp.Or(o.Timeout, defaultTimeout)
	o.MemoryBytes = cmp.Or(o.MemoryBytes, defaultMemoryBytes)
	most := runtime.GOMAXPROCS(0)
	if o.Workers = cmp.Or(o.Workers, most); o.Workers < 1 || o.Workers > most {
		o.Workers = most
	}
	return o
}

// brake returns what ends the search of one of the workers among a number of operations.
func (o Options) brake(ctx context.Context, operations int) *brake {
	return newBrake(ctx, o.GroupTimeout, o.MemoryBytes/int64(o.Workers), operations)
}

// group is the operations of one group, in the order of the calls.
type group struct {
	number     int
	operations []history.Operation
}

// finding is what a worker found of a group: a verdict, or the reason why there is none.
type finding struct {
	verdict  verdict
	alongLog bool // unexplained along the log; of other orders nothing is known
	reason   string
}

// split returns the groups of a history by number.
func split(operations []history.Operation) []group {
	of := map[int][]history.Operation{}
	for i := range operations {
		of[operations[i].Group] = append(of[operations[i].Group], operations[i])
	}
	groups := make([]group, 0, len(of))
	for _, number := range slices.Sorted(maps.Keys(of)) {
		groups = append(groups, group{number, of[number]})
	}
	return groups
}

// appointment is a customer and when something is: an event ID, or a month.
type appointment[T comparable] struct {
	customer dems.UserID
	when     T
}

// sharing returns, by group, with which other group one shares what could make them change each other's answers. Such groups
// cannot be judged. An event belongs to one group. A customer may belong to several, because of each one's schedules and lists
// the history has the group's own events, except where groups have events of one ID, which a cancellation without a type does
// not tell apart, or events of one month outside the customer's city, which count towards one limit.
func sharing(groups []group) map[int]string {
	shared, events := map[int]string{}, map[dems.EventKey]int{}
	ids, months := map[appointment[dems.EventID]]int{}, map[appointment[int]]int{}
	note := func(number, owner int, format string, arguments ...any) {
		if number != owner {
			what := fmt.Sprintf(format, arguments...)
			shared[number] = fmt.Sprintf("it shares %s with group %d, so that one may change answers of the other", what, owner)
			shared[owner] = fmt.Sprintf("it shares %s with group %d, so that one may change answers of the other", what, number)
		}
	}
	for _, g := range groups {
		customers, keys := g.parties()
		for _, key := range keys {
			if key.Type != 0 {
				note(g.number, owner(events, key, g.number), "%s", key)
			}
			for _, customer := range customers {
				id, month := appointment[dems.EventID]{customer, key.ID}, appointment[int]{customer, key.ID.Date.MonthNumber()}
				note(g.number, owner(ids, id, g.number), "%s and %s", customer, key.ID)
				if key.IsForeign(customer) {
					note(g.number, owner(months, month, g.number), "%s and that customer's limit of a month", customer)
				}
			}
		}
	}
	return shared
}

// parties returns the customers and the events that operations of a group name, each once. Without a type is what was to be
// cancelled by its ID.
func (g group) parties() (customers []dems.UserID, events []dems.EventKey) {
	seenCustomers, seenEvents := map[dems.UserID]bool{}, map[dems.EventKey]bool{}
	for i := range g.operations {
		c := &g.operations[i].Command
		if c.Op.ForCustomer() && !seenCustomers[c.Customer] {
			seenCustomers[c.Customer] = true
			customers = append(customers, c.Customer)
		}
		for _, key := range []dems.EventKey{c.Event, c.OldEvent} {
			if key.ID != (dems.EventID{}) && !seenEvents[key] {
				seenEvents[key] = true
				events = append(events, key)
			}
		}
	}
	return customers, events
}

// owner returns the group that something belongs to: this one if it belongs to none yet.
func owner[T comparable](owners map[T]int, thing T, number int) int {
	if _, owned := owners[thing]; !owned {
		owners[thing] = number
	}
	return owners[thing]
}

func (g group) undecided(reason string) Undecided {
	u := Undecided{Group: g.number, Operations: len(g.operations), Reason: reason}
	for i := range g.operations {
		if g.operations[i].Outcome == history.Unknown {
			u.Unknown++
		}
	}
	return u
}

// check looks for an order along the log first, which is fast, and only then for any. If nobody can tell whether there is
// another one, it counts that there is none along the log: a server that is right leaves one.
func (g group) check(ctx context.Context, options Options) finding {
	operations := relevant(g.operations)
	alongLog := newSearch(operations, true, options.brake(ctx, len(operations))).run()
	if alongLog == explained {
		return finding{verdict: explained}
	}
	brake := options.brake(ctx, len(operations))
	found := newSearch(operations, false, brake).run()
	if found == undecided && alongLog == unexplained {
		return finding{verdict: unexplained, alongLog: true}
	}
	return finding{verdict: found, reason: brake.reason}
}

// relevant leaves out what can explain nothing: what was certainly not applied, and reads that nobody saw the answer of.
func relevant(operations []history.Operation) []history.Operation {
	return slices.DeleteFunc(slices.Clone(operations), func(o history.Operation) bool {
		return o.Outcome == history.Failed || o.Outcome != history.Answered && !o.Command.Op.Mutates()
	})
}
