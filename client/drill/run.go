package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"dems"
	"dems/client"
	"dems/client/drill/history"
	"dems/client/drill/report"
)

const (
	// warmUp is how long clients do what they do before anything is broken.
	warmUp = time.Second
	// settleTimeout bounds what clients do at the end: learning what became of every operation, and reading everything.
	settleTimeout = 3 * time.Minute
	// equalTimeout is how long the nodes may take to have the same state once nobody asks for anything.
	equalTimeout = time.Minute
	// clearTimeout bounds removing what the clients made.
	clearTimeout = 3 * time.Minute
	// mostUndone is how many rounds in a row may fail to break anything before it is given up.
	mostUndone = 3
)

// drill is one drill.
type drill struct {
	config    Config
	scenarios []scenario
	api       api
	prepare   func(ctx context.Context) (load, error)
	judge     func(ctx context.Context, operations []history.Operation) Judgement
	recorder  *history.Recorder
	random    *rand.Rand // of the goroutine that does the rounds
	watch     *watch

	// What follows is known after check and prepare.
	load     load
	nodes    []dems.NodeID
	faults   bool // nodes and front ends take faults
	removals map[dems.NodeID]int

	// What follows belongs to the goroutine that does the rounds, until they are over.
	wrong  map[life]bool // lives that were made wrong
	byHand map[life]bool // lives that were let in by hand after a quarantine
	found  invariants
	report report.Report
	undone int // rounds in a row that broke nothing

	mu  sync.Mutex
	now Progress // without what is counted
}

// Run runs a drill and returns its report, which is also kept in the folder Config.Keep. When ctx ends no further round begins;
// what was broken is mended, clients come to an end, and there is a report about what was done until then. An error is that the
// drill could not begin, and nothing was done then, or that its files could not be written.
func Run(ctx context.Context, config Config) (*report.Report, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	front, err := client.New(client.Config{Endpoints: config.Endpoints, Timeout: config.Timeout})
	if err != nil {
		return nil, err
	}
	defer front.Close()
	return newDrill(config, front).run(ctx)
}

// newDrill returns a drill that has not begun.
func newDrill(config Config, front *client.Client) *drill {
	d := &drill{
		config: config, scenarios: chosen(config.Scenario), api: front, recorder: history.NewRecorder(0),
		random: rand.New(rand.NewPCG(config.Seed, 1)), removals: make(map[dems.NodeID]int), wrong: make(map[life]bool),
		byHand: make(map[life]bool),
		judge:  Judge,
	}
	d.prepare = func(ctx context.Context) (load, error) { return prepareTraffic(ctx, config, front, d.recorder) }
	d.watch = newWatch(front, d.recorder.Elapsed)
	return d
}

// chosen returns the scenarios of that name.
func chosen(name string) []scenario {
	var all []scenario
	for _, s := range scenarios {
		if name == All || name == s.name {
			all = append(all, s)
		}
	}
	return all
}

// run does the drill.
func (d *drill) run(ctx context.Context) (*report.Report, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	keeper, err := newKeeper(d.config.Keep)
	if err != nil {
		return nil, err
	}
	d.describe()
	d.doing("making events")
	if d.load, err = d.prepare(ctx); err != nil {
		return nil, errors.Join(err, keeper.abandon())
	}
	lasting, stop := context.WithCancel(context.WithoutCancel(ctx))
	var aside sync.WaitGroup
	aside.Go(func() { d.watch.run(lasting) })
	aside.Go(func() { d.tell(lasting) })
	d.drive(ctx)
	d.settle(ctx)
	d.doing("removing the events")
	if err := d.clear(ctx); err != nil {
		d.note("What the clients made could not all be removed: %v", err)
	}
	stop()
	aside.Wait()
	operations := d.recorder.Operations()
	header := history.Header{Seed: d.config.Seed, Began: d.recorder.Began().UTC()}
	err = keeper.history(header, operations) // before it is judged, which takes a while
	ctx = context.WithoutCancel(ctx)
	judged := d.judge(ctx, operations)
	d.conclude(operations, judged)
	err = errors.Join(err, keeper.violations(ctx, judged.Violations))
	d.report.Kept = keeper.names()
	return &d.report, errors.Join(err, keeper.report(&d.report))
}

// describe fills what the report has from the beginning.
func (d *drill) describe() {
	d.report = report.Report{
		Version: d.config.Version, Scenario: d.config.Scenario, Seed: d.config.Seed, Command: d.config.Command,
		Cluster: d.config.Target.Description(), Began: d.recorder.Began().UTC(),
	}
	for _, id := range d.nodes {
		d.report.Nodes = append(d.report.Nodes, string(id))
	}
}

// drive has clients work while round after round breaks something, and mends everything at the end.
func (d *drill) drive(ctx context.Context) {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	rounds, end := context.WithCancelCause(ctx)
	defer end(nil)
	var clients sync.WaitGroup
	clients.Go(func() {
		err := d.load.Run(working)
		if err == nil {
			err = errors.New("the clients stopped by themselves")
		}
		end(err)
	})
	err := d.warm(rounds)
	if err == nil {
		err = d.rounds(rounds)
	}
	switch {
	case ctx.Err() != nil:
		d.note("The drill was interrupted after %d rounds.", len(d.report.Rounds))
	case errors.Is(err, history.ErrFull) && d.config.Duration > 0:
		d.note("The rounds ended early: %v.", history.ErrFull)
	case err != nil:
		d.found[notDone].add("the rounds ended early: %v", err)
	}
	if err := d.heal(ctx); err != nil {
		d.found[notDone].add("what was broken is not all mended; look at the cluster: %v", err)
	}
	stop()
	d.doing("waiting for the last answers")
	clients.Wait()
}

// warm waits until clients are served.
func (d *drill) warm(ctx context.Context) error {
	d.doing("warming up")
	if err := wait(ctx, warmUp); err != nil {
		return err
	}
	if err := d.awaitAnswers(ctx, "began"); err != nil {
		return err
	}
	return d.whole(ctx, 0)
}

// rounds does round after round, of each scenario in turn, until there were enough or the time is over.
func (d *drill) rounds(ctx context.Context) error {
	begun, count := d.recorder.Elapsed(), 0
	for number := 1; d.config.Rounds == 0 || number <= d.config.Rounds; number++ {
		for i := range d.scenarios {
			if d.config.Duration > 0 {
				// In a long drill rounds keep their distance, so that there are not too many.
				earliest := begun + time.Duration(count)*(d.config.Duration/MaxRounds)
				if err := wait(ctx, earliest-d.recorder.Elapsed()); err != nil {
					return err
				}
				if d.recorder.Elapsed()-begun >= d.config.Duration {
					return nil
				}
			}
			count++
			d.begins(d.scenarios[i].name, count)
			if err := d.round(ctx, &d.scenarios[i], number); err != nil {
				return err
			}
		}
	}
	return nil
}

// round does one round. It returns an error where no other can follow.
func (d *drill) round(ctx context.Context, s *scenario, number int) error {
	d.watch.urgent.Store(true)
	defer d.watch.urgent.Store(false)
	r := &round{drill: d, record: report.Round{Scenario: s.name, Number: number}}
	err, last := s.run(ctx, r), error(nil)
	if err == nil {
		d.undone = 0
	} else {
		last = d.recover(ctx, r, err)
	}
	if r.broken {
		r.finish(last == nil)
		d.report.Rounds = append(d.report.Rounds, r.record)
		d.config.Round(r.record)
	}
	return last
}

// recover mends everything after a round that failed, and waits until the cluster is whole again. It returns an error where no
// other round can follow.
func (d *drill) recover(ctx context.Context, r *round, err error) error {
	d.doing("mending")
	if failed := d.heal(ctx); failed != nil {
		err = errors.Join(err, failed)
	}
	if r.mended == 0 {
		r.healed()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	broken := notDone
	if lacking, ok := errors.AsType[*missed](err); ok {
		broken = lacking.of
	}
	d.found[broken].add("%s, round %d: %v", r.record.Scenario, r.record.Number, err)
	if d.undone++; d.undone == mostUndone {
		return fmt.Errorf("%d rounds in a row failed, the last one so: %w", mostUndone, err)
	}
	d.doing("waiting until the cluster is whole again")
	return d.whole(ctx, d.recorder.Elapsed())
}

// finish fills what was seen of a round.
func (r *round) finish(whole bool) {
	if whole {
		r.record.EndedAt = r.recorder.Elapsed().Seconds()
	}
	if r.record.Node == "" {
		return
	}
	r.watch.read(func(s *sight) {
		if at, elected := s.electedAfter(r.term); elected {
			r.record.ElectMS = milliseconds(at - r.at)
		}
	})
}

// settle waits until clients know what became of everything, and nodes have the same state.
func (d *drill) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	d.begins("", 0)
	d.doing("learning what became of every operation")
	if err := d.load.Settle(ctx); err != nil {
		d.found[notDone].add("clients could not learn what became of everything: %v", err)
	}
	d.doing("comparing the states of all nodes")
	since := d.recorder.Elapsed()
	err := d.watch.await(ctx, equalTimeout, differingStates, "all nodes have the same state", func(s *sight) string {
		if s.asked <= since {
			return "nothing was seen of the nodes since"
		}
		return s.unequal(d.nodes)
	})
	if err != nil {
		d.found[differingStates].add("at the end: %v", err)
	}
	if err := d.watch.hear(ctx); err != nil {
		d.found[notDone].add("the last incidents could not be read: %v", err)
	}
	d.report.Seconds = d.recorder.Elapsed().Seconds()
}

// clear removes what the clients made.
func (d *drill) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTimeout)
	defer cancel()
	return d.load.Clear(ctx)
}

// note tells the reader of the report something.
func (d *drill) note(format string, arguments ...any) {
	d.report.Notes = append(d.report.Notes, fmt.Sprintf(format, arguments...))
}
