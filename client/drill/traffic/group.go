package traffic

import (
	"slices"
	"sync"

	"dems"
	"dems/client/drill/history"
)

// group is events and customers whose operations are judged together, and by themselves.
type group struct {
	number    int
	events    []dems.EventKey
	customers []dems.UserID
	// One of these is the group itself.
	contended *contended
	unique    *unique

	// lock guards what follows: several clients work on one group.
	lock sync.Mutex
	// made are the events that have to be removed in the end.
	made []dems.EventKey
	// unsettled are the operations whose outcome is unknown and that no client asks for at the moment.
	unsettled []*task
	// events and schedules as they were read when nothing was under way any more. An event that does not exist is nil.
	finalEvents    map[dems.EventKey]*dems.EventView
	finalSchedules map[dems.UserID][]dems.EventKey
	finalLists     map[dems.EventType]bool
	concluded      bool // what follows from them is among the findings
}

// task is one operation with all the times that it is asked for. It is used by one goroutine at a time.
type task struct {
	group   *group
	command dems.Command
	pending *history.Pending // nil: it is not recorded
	verdict verdict
	result  dems.Result // answered only; cut to what is the group's
	strange int         // how often what came was no possible answer
}

// mostStrange is how often something impossible may be answered before nobody asks any more.
const mostStrange = 3

// hopeless tells whether asking again leads nowhere.
func (t *task) hopeless() bool { return t.strange >= mostStrange }

func newGroup(number int) *group {
	return &group{
		number: number, finalEvents: make(map[dems.EventKey]*dems.EventView),
		finalSchedules: make(map[dems.UserID][]dems.EventKey), finalLists: make(map[dems.EventType]bool),
	}
}

func (g *group) own(event dems.EventKey) { g.events = append(g.events, event) }

func (g *group) owns(event dems.EventKey) bool { return slices.Contains(g.events, event) }

// cut returns a result without what is not the group's: of lists and schedules, the events of others.
func (g *group) cut(result dems.Result) dems.Result {
	if len(result.Events) > 0 {
		var events []dems.EventView
		for _, view := range result.Events {
			if g.owns(view.Key) {
				events = append(events, view)
			}
		}
		result.Events = events
	}
	if len(result.Bookings) > 0 {
		var bookings []dems.EventKey
		for _, key := range result.Bookings {
			if g.owns(key) {
				bookings = append(bookings, key)
			}
		}
		result.Bookings = bookings
	}
	return result
}

// making notes that an event is asked for, so that it is removed at the end.
func (g *group) making(event dems.EventKey) {
	g.lock.Lock()
	defer g.lock.Unlock()
	if !slices.Contains(g.made, event) {
		g.made = append(g.made, event)
	}
}

// disown notes that there is nothing to remove: the event was removed, or somebody else has made it.
func (g *group) disown(event dems.EventKey) {
	g.lock.Lock()
	defer g.lock.Unlock()
	g.made = slices.DeleteFunc(g.made, func(key dems.EventKey) bool { return key == event })
}

// toRemove returns the events that have to be removed.
func (g *group) toRemove() []dems.EventKey {
	g.lock.Lock()
	defer g.lock.Unlock()
	return slices.Clone(g.made)
}

// leave notes that the outcome of an operation is unknown and that nobody asks any more.
func (g *group) leave(t *task) {
	g.lock.Lock()
	defer g.lock.Unlock()
	g.unsettled = append(g.unsettled, t)
}

// take returns the operations that were left, which are the caller's from now on.
func (g *group) take() []*task {
	g.lock.Lock()
	defer g.lock.Unlock()
	taken := g.unsettled
	g.unsettled = nil
	return taken
}

// settled tells whether the outcome of everything is known that was asked for.
func (g *group) settled() bool {
	g.lock.Lock()
	defer g.lock.Unlock()
	return len(g.unsettled) == 0
}

// note keeps what a final read has shown, and returns false where that is nothing.
func (g *group) note(t *task) bool {
	g.lock.Lock()
	defer g.lock.Unlock()
	switch op, code := t.command.Op, t.result.Code; {
	case t.verdict != answered:
		return false
	case op == dems.GetEvent && code == dems.OK:
		g.finalEvents[t.command.Event] = &t.result.Event
	case op == dems.GetEvent && code == dems.EventNotFound:
		g.finalEvents[t.command.Event] = nil
	case op == dems.GetBookingSchedule && code == dems.OK:
		g.finalSchedules[t.command.Customer] = t.result.Bookings
	case op == dems.ListEventAvailability && code == dems.OK:
		g.finalLists[t.command.Event.Type] = true
	default:
		return false
	}
	return true
}

// finalReads returns the reads that are still to be made of the last state.
func (g *group) finalReads() []dems.Command {
	g.lock.Lock()
	defer g.lock.Unlock()
	var reads []dems.Command
	for _, event := range g.events {
		manager := dems.UserID{City: event.ID.City, Role: dems.Manager, Number: 1}
		if _, read := g.finalEvents[event]; !read {
			reads = append(reads, dems.Command{Op: dems.GetEvent, By: manager, Event: event})
		}
		// Of a unique event the list would tell nothing that the event itself does not, and there are many of them.
		if g.contended != nil && !g.finalLists[event.Type] && !slices.ContainsFunc(reads, lists(event.Type)) {
			reads = append(reads, listing(manager, event.Type))
		}
	}
	for number, customer := range g.customers {
		if g.unique != nil && g.unique.booked[number] == nil {
			continue // nothing was asked for
		}
		if _, read := g.finalSchedules[customer]; !read {
			reads = append(reads, dems.Command{Op: dems.GetBookingSchedule, By: customer, Customer: customer})
		}
	}
	return reads
}

// lists returns a function that tells whether a command lists the events of a type.
func lists(eventType dems.EventType) func(dems.Command) bool {
	return func(c dems.Command) bool { return c.Op == dems.ListEventAvailability && c.Event.Type == eventType }
}
