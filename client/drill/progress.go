package drill

import (
	"context"
	"fmt"
	"time"
)

// tellInterval is how often it is told how far the drill is.
const tellInterval = time.Second

// begins notes that a round begins: the one that counts as that over all scenarios.
func (d *drill) begins(scenario string, count int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now.Scenario, d.now.Round = scenario, count
	if d.now.Rounds = d.config.Rounds * len(d.scenarios); d.config.Duration > 0 {
		d.now.Rounds = 0
	}
}

// doing notes what is going on.
func (d *drill) doing(format string, arguments ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now.Doing = fmt.Sprintf(format, arguments...)
}

// tell tells every second how far the drill is, until the context ends.
func (d *drill) tell(ctx context.Context) {
	ticker := time.NewTicker(tellInterval)
	defer ticker.Stop()
	before, at := answered(d.load), d.recorder.Elapsed()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		counts, done, now := d.load.Counts(), answered(d.load), d.recorder.Elapsed()
		d.mu.Lock()
		progress := d.now
		d.mu.Unlock()
		progress.Elapsed = now
		progress.PerSecond = float64(done-before) / (now - at).Seconds()
		progress.Failed = counts.Failed + counts.Unknown
		d.watch.read(func(s *sight) { progress.Leader = string(s.leader()) })
		before, at = done, now
		d.config.Progress(progress)
	}
}
