package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dems"
	"dems/client"
	"dems/client/drill/report"
)

const (
	crewSize = 4 // clients that share a group, where there are so many
	// grace is how long Run waits for answers under way, after its context has ended. What takes longer is left to Settle.
	grace = 15 * time.Second
	// mostFinalReads is how many reads of last states are left to the end. Beyond, groups that have ended are read and removed
	// while the others go on: the end must not take forever, and every list shows every event.
	mostFinalReads = 12_000
)

// Traffic is the load of one drill. Counts, Findings and Notes may be called at any time, the others one after the other.
type Traffic struct {
	config   Config
	calendar *calendar
	cities   []dems.City // of contended groups
	prefix   string      // of all keys
	pace     pace
	crews    []*crew
	workers  []*worker // of all crews
	ran      atomic.Bool
	counts   counts
	findings findings
	uniques  atomic.Int64 // unique groups so far
	mostLeft int          // how many final reads are left to the end

	// lock guards what follows.
	lock       sync.Mutex
	numbers    int      // of groups so far
	groups     []*group // all but those that are retired
	ended      []*group // of these, in which nothing is under way any more, oldest first; those under a crew's hands left out
	finalReads int      // of the groups that have ended
	notes      []string
}

// Prepare learns which cities and events there are, and chooses dates that are free. It changes nothing.
func Prepare(ctx context.Context, config Config) (*Traffic, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	registry, err := config.API.Registry(ctx)
	if err != nil {
		return nil, fmt.Errorf("traffic: the cities cannot be learned from the registry: %w", err)
	}
	if len(registry.Cities) == 0 {
		return nil, errors.New("traffic: the registry knows no cities; wait until a node has registered")
	}
	existing, err := existingEvents(ctx, config.API, registry.Cities[0].City)
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(config.Seed, 0))
	t := &Traffic{config: config, prefix: client.NewKey()[:12], mostLeft: mostFinalReads}
	if t.calendar, err = newCalendar(registry.Cities, existing, int(random.Uint32())); err != nil {
		return nil, err
	}
	if !t.calendar.rebook {
		t.addNote("Events exist up to the last dates that there are, so no event is removed with rebooking: bookings might be moved to those.")
	}
	if config.Rate > 0 {
		t.pace.interval = time.Duration(float64(time.Second) / config.Rate)
	}
	t.form(registry.Cities, random)
	return t, nil
}

// existingEvents returns every event that there is.
func existingEvents(ctx context.Context, api *client.Client, city dems.City) ([]dems.EventKey, error) {
	var existing []dems.EventKey
	manager := api.As(dems.UserID{City: city, Role: dems.Manager, Number: 1})
	for _, eventType := range dems.EventTypes {
		listed, err := manager.ListEventAvailability(ctx, eventType)
		if err != nil {
			return nil, fmt.Errorf("traffic: the events that exist cannot be listed: %w", err)
		}
		for _, event := range listed.Events {
			existing = append(existing, event.Key())
		}
	}
	return existing, nil
}

// form divides the clients into crews: half of them contend, at most crewSize for each share of types and cities, and the others
// work on unique groups.
func (t *Traffic) form(cities dems.Cities, random *rand.Rand) {
	var all []dems.City
	for _, named := range cities {
		all = append(all, named.City)
	}
	shares := apportion(all, random.Shuffle)
	for _, share := range shares {
		for _, pair := range share {
			if !slices.Contains(t.cities, pair.city) {
				t.cities = append(t.cities, pair.city)
			}
		}
	}
	contending := t.config.Clients / 2
	shares = shares[:min(len(shares), max(1, contending/2))]
	for i, share := range shares {
		size := min(crewSize, contending/len(shares))
		t.crews = append(t.crews, &crew{Traffic: t, pairs: share, firstCustomer: i * customersOfCrew, workers: t.hire(size)})
	}
	for left := t.config.Clients - len(t.workers); left > 0; left = t.config.Clients - len(t.workers) {
		t.crews = append(t.crews, &crew{Traffic: t, workers: t.hire(min(crewSize, left))})
	}
}

// hire returns more clients.
func (t *Traffic) hire(count int) []*worker {
	for range count {
		number := len(t.workers)
		t.workers = append(t.workers, &worker{
			Traffic: t, number: number, random: rand.New(rand.NewPCG(t.config.Seed, uint64(number)+1)),
		})
	}
	return slices.Clone(t.workers[len(t.workers)-count:])
}

// Run drives load until ctx ends, and then waits a while for the answers under way; what is not known by then is left to Settle.
// It may be called once. The error is history.ErrFull, earlier, where the history is full.
func (t *Traffic) Run(ctx context.Context) error {
	if t.ran.Swap(true) {
		return errors.New("traffic: it has run already; prepare another one")
	}
	begin, stop := context.WithCancel(ctx)
	defer stop()
	calls, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var (
		working sync.WaitGroup
		failure atomic.Pointer[error]
	)
	for _, c := range t.crews {
		working.Go(func() {
			work := c.share
			if c.pairs != nil {
				work = c.contend
			}
			if err := work(until{begin, calls}); err != nil {
				failure.Store(&err)
				stop()
			}
		})
	}
	finished := make(chan struct{})
	go func() {
		working.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-begin.Done():
		patience := time.NewTimer(grace)
		defer patience.Stop()
		select {
		case <-finished:
		case <-patience.C:
			cut()
			<-finished
		}
	}
	if err := failure.Load(); err != nil {
		return *err
	}
	return nil
}

// newGroup returns a group that is known from now on.
func (t *Traffic) newGroup() *group {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.numbers++
	g := newGroup(t.numbers)
	t.groups = append(t.groups, g)
	return g
}

// end notes that nothing is under way in a group any more.
func (t *Traffic) end(g *group) {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.ended = append(t.ended, g)
	t.finalReads += len(g.events) + len(g.customers)
}

// oldest returns the group that is to be retired, for the caller alone; nil where none has to be.
func (t *Traffic) oldest() *group {
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.finalReads <= t.mostLeft {
		return nil
	}
	at := slices.IndexFunc(t.ended, (*group).settled)
	if at < 0 {
		return nil
	}
	g := t.ended[at]
	t.ended = slices.Delete(t.ended, at, at+1)
	t.finalReads -= len(g.events) + len(g.customers)
	return g
}

// forget forgets a group of which nothing is left.
func (t *Traffic) forget(g *group) {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.groups = slices.DeleteFunc(t.groups, func(other *group) bool { return other == g })
}

// known returns the groups that are not retired.
func (t *Traffic) known() []*group {
	t.lock.Lock()
	defer t.lock.Unlock()
	return slices.Clone(t.groups)
}

// Counts returns how operations fared so far.
func (t *Traffic) Counts() Counts { return t.counts.read() }

// Findings returns what the direct checks have found; it is complete after Settle.
func (t *Traffic) Findings() []report.Invariant { return t.findings.invariants() }

// Notes returns what a reader of the report should know besides.
func (t *Traffic) Notes() []string {
	t.lock.Lock()
	defer t.lock.Unlock()
	return slices.Clone(t.notes)
}

// mostNotes bounds the notes.
const mostNotes = 20

func (t *Traffic) addNote(format string, arguments ...any) {
	t.lock.Lock()
	defer t.lock.Unlock()
	note := fmt.Sprintf(format, arguments...)
	if len(t.notes) < mostNotes && !slices.Contains(t.notes, note) {
		t.notes = append(t.notes, note)
	}
}
