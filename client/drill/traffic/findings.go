package traffic

import (
	"fmt"
	"slices"
	"sync"

	"dems"
	"dems/client/drill/report"
)

// finding is a kind of finding.
type finding int

// The findings.
const (
	lostBooking finding = iota
	doubleApplied
	oversold
	strangeAnswer
	findingCount
)

// invariants are what has to hold, one for each finding.
var invariants = [findingCount]report.Invariant{
	lostBooking: {Name: "lost", Meaning: "Every booking that was acknowledged is there at the end."},
	doubleApplied: {Name: "double-applied", Meaning: "Every request takes effect once, however often it is sent: nobody holds two seats of an event, " +
		"and asking again under a key brings the same answer."},
	oversold: {Name: "oversold", Meaning: "No event ever has more bookings than seats, and the seats taken are those in the schedules."},
	strangeAnswer: {Name: "impossible answers", Meaning: "Every answer can be read, is about what was asked, and is one that the rules can give; " +
		"none says that the front end failed inside."},
}

// mostExamples is how many examples a finding keeps.
const mostExamples = 5

// findings collects what the direct checks find. It is safe for concurrent use.
type findings struct {
	lock     sync.Mutex
	broken   [findingCount]uint64
	examples [findingCount][]string
}

// add adds a finding about an operation.
func (f *findings) add(of finding, t *task, format string, arguments ...any) {
	f.addExample(of, describeTask(t)+": "+fmt.Sprintf(format, arguments...))
}

// addExample adds a finding.
func (f *findings) addExample(of finding, example string) {
	f.lock.Lock()
	defer f.lock.Unlock()
	f.broken[of]++
	if len(f.examples[of]) < mostExamples {
		f.examples[of] = append(f.examples[of], example)
	}
}

func (f *findings) invariants() []report.Invariant {
	f.lock.Lock()
	defer f.lock.Unlock()
	found := slices.Clone(invariants[:])
	for i := range found {
		found[i].Broken, found[i].Examples = f.broken[i], slices.Clone(f.examples[i])
	}
	return found
}

// describeTask says for people which operation it is.
func describeTask(t *task) string {
	c := &t.command
	text := fmt.Sprintf("group %d, %s %s", t.group.number, c.By, c.Op)
	if t.pending != nil {
		text = fmt.Sprintf("operation %d, %s", t.pending.Number(), text)
	}
	if c.Key != "" {
		text += " under key " + c.Key
	}
	if c.Customer != (dems.UserID{}) {
		text += " for " + c.Customer.String()
	}
	switch {
	case c.Op == dems.SwapEvent:
		text += fmt.Sprintf(" of %s for %s", c.OldEvent, c.Event)
	case c.Event == (dems.EventKey{}):
	case c.Event.ID == (dems.EventID{}):
		text += " of type " + c.Event.Type.String()
	case c.Event.Type == 0:
		text += " of " + c.Event.ID.String()
	default:
		text += " of " + c.Event.String()
	}
	return text
}

// describe says for people what an answer is.
func describe(t *task, r *dems.Result) string {
	if r.Code != dems.OK {
		return r.Code.String()
	}
	return fmt.Sprintf("%q (sequence %d)", r.Text(&t.command), r.Sequence)
}

// sameAnswer tells whether two answers to a mutation are one.
func sameAnswer(a, b *dems.Result) bool {
	return a.Code == b.Code && a.Outcome == b.Outcome && a.Event == b.Event && a.Booking == b.Booking && a.Old == b.Old &&
		a.Customer == b.Customer && slices.Equal(a.Affected, b.Affected) && (a.Code != dems.OK || a.Sequence == b.Sequence)
}

// inspect looks at an answer by itself, before what is not the group's is cut from it.
func (t *Traffic) inspect(k *task, r *dems.Result) {
	views := r.Events
	if r.Event != (dems.EventView{}) {
		views = append([]dems.EventView{r.Event}, views...)
	}
	seen := make(map[dems.EventKey]bool)
	for _, view := range views {
		if view.Booked > view.Capacity {
			t.findings.add(oversold, k, "%s has %d bookings for %d seats", view.Key, view.Booked, view.Capacity)
		}
		if seen[view.Key] {
			t.findings.add(strangeAnswer, k, "it lists %s twice", view.Key)
		}
		seen[view.Key] = true
		if unique := k.group.unique; unique != nil && view.Key == unique.event() && view.Booked > unique.asked() {
			t.findings.add(doubleApplied, k, "%s has %d bookings, but only %d customers asked for one", view.Key, view.Booked, unique.asked())
		}
	}
	clear(seen)
	for _, key := range r.Bookings {
		if seen[key] {
			t.findings.add(doubleApplied, k, "the schedule of %s has %s twice", r.Customer, key)
		}
		seen[key] = true
	}
	switch {
	case k.group.contended != nil:
		k.group.contended.watch(r.Events)
	case k.command.Op != dems.BookEvent:
	case r.Code == dems.AlreadyBooked:
		t.findings.add(doubleApplied, k, "answered already_booked, but nobody else asked for this booking")
	case r.Code != dems.OK && r.Code != dems.EventFull:
		t.findings.add(strangeAnswer, k, "answered %s", r.Code)
	}
}

// conclude adds what follows from the last state of a group to the findings, once. It returns false where that has not been read
// as a whole.
func (t *Traffic) conclude(g *group) bool {
	if len(g.finalReads()) > 0 {
		return false
	}
	g.lock.Lock()
	defer g.lock.Unlock()
	if g.concluded {
		return true
	}
	g.concluded = true
	shown := make(map[dems.EventKey]uint32) // how many bookings schedules show
	for _, schedule := range g.finalSchedules {
		for _, key := range schedule {
			shown[key]++
		}
	}
	quiet := len(g.unsettled) == 0
	for _, key := range g.events {
		booked := uint32(0)
		if view := g.finalEvents[key]; view != nil {
			booked = view.Booked
		}
		if quiet && booked != shown[key] {
			t.findings.addExample(oversold, fmt.Sprintf("group %d: at the end %s has %d bookings, but schedules show %d",
				g.number, key, booked, shown[key]))
		}
	}
	if g.unique != nil {
		t.concludeUnique(g.unique)
	}
	return true
}

// concludeUnique looks what became of every booking of a unique group. The caller holds the group's lock.
func (t *Traffic) concludeUnique(u *unique) {
	var acknowledged, unknown, full uint32
	for _, k := range u.booked {
		if k == nil {
			continue
		}
		there := slices.Contains(u.finalSchedules[k.command.Customer], u.event())
		switch code := k.result.Code; {
		case k.verdict == lost:
			unknown++
		case k.verdict == answered && code == dems.OK:
			acknowledged++
			if !there {
				t.findings.add(lostBooking, k, "acknowledged, but the schedule of %s at the end has no such booking", k.command.Customer)
			}
		case k.verdict == answered && code == dems.AlreadyBooked:
			unknown++ // it is among the findings
		case there:
			t.findings.add(strangeAnswer, k, "%s, but at the end the booking is there", refusal(k))
		case code == dems.EventFull:
			full++
		}
	}
	view := u.finalEvents[u.event()]
	if view == nil {
		if acknowledged > 0 {
			t.findings.addExample(lostBooking, fmt.Sprintf("group %d: at the end %s is gone, with %d acknowledged bookings", u.number, u.event(), acknowledged))
		}
		return
	}
	if acknowledged > uniqueSeats {
		t.findings.addExample(oversold, fmt.Sprintf("group %d: %d bookings of %s were acknowledged, which has %d seats",
			u.number, acknowledged, u.event(), uniqueSeats))
	}
	if view.Booked > acknowledged+unknown {
		t.findings.addExample(doubleApplied, fmt.Sprintf("group %d: at the end %s has %d bookings, but only %d were acknowledged and %d are unknown",
			u.number, u.event(), view.Booked, acknowledged, unknown))
	}
	if full > 0 && view.Booked < uniqueSeats {
		t.findings.addExample(strangeAnswer, fmt.Sprintf("group %d: %d bookings of %s were refused as if it were full, but %d of %d seats are taken",
			u.number, full, u.event(), view.Booked, uniqueSeats))
	}
}

// refusal says for people why an operation was not done.
func refusal(k *task) string {
	if k.verdict == failed {
		return "certainly not applied"
	}
	return "answered " + k.result.Code.String()
}
