package drill

import (
	"context"

	"dems/client"
	"dems/client/drill/history"
	"dems/client/drill/report"
	"dems/client/drill/traffic"
)

// load is the clients of a drill. A traffic.Traffic is one.
type load interface {
	// Run has clients do operations until the context ends, and then waits for the answers under way. It returns earlier where
	// nothing more can be done.
	Run(ctx context.Context) error
	// Settle learns what became of every operation and reads everything.
	Settle(ctx context.Context) error
	// Clear removes everything that was made.
	Clear(ctx context.Context) error
	// Counts says how many operations there were so far.
	Counts() traffic.Counts
	// Findings says what is wrong with what was seen, Notes what a reader should know besides.
	Findings() []report.Invariant
	Notes() []string
}

// prepareTraffic chooses what clients will do.
func prepareTraffic(ctx context.Context, config Config, front *client.Client, recorder *history.Recorder) (load, error) {
	return traffic.Prepare(ctx, traffic.Config{
		API: front, Recorder: recorder, Clients: config.Clients, Rate: config.Rate, Seed: config.Seed,
	})
}

// answered returns how many operations of a load were answered so far, refusals included.
func answered(load load) uint64 {
	counts := load.Counts()
	return counts.Acknowledged + counts.Refused
}
