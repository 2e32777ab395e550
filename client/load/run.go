package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"dems/client"
)

// Removing an event takes longer than anything else, because it may have the bookings of all customers.
const (
	removalTimeout = time.Minute     // of one event, with all retries
	clearTimeout   = 5 * time.Minute // of all of them
)

// Run makes events, puts the front ends under load, removes the events and returns a report. When ctx ends, the load does,
// and the report is about what was done until then. The report is nil where there was no load at all; the error may be
// about the events that could not be removed.
func Run(ctx context.Context, config Config) (*Report, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	for config.Seed == 0 {
		config.Seed = rand.Uint64() >> 11 // what every reader of JSON takes for the same number
	}
	course := &course{config: config}
	for _, text := range config.Endpoints {
		parsed, err := parseEndpoint(text, config.TLS)
		if err != nil {
			return nil, err
		}
		course.endpoints = append(course.endpoints, parsed)
	}
	api, err := client.New(client.Config{Endpoints: config.Endpoints, Timeout: config.Timeout})
	if err != nil {
		return nil, err
	}
	defer api.Close()
	remover, err := client.New(client.Config{Endpoints: config.Endpoints, Timeout: removalTimeout})
	if err != nil {
		return nil, err
	}
	defer remover.Close()
	course.stage, err = prepare(ctx, config, api, rand.New(rand.NewPCG(config.Seed, 0)))
	var report *Report
	if err == nil {
		report = course.run(ctx)
	}
	if config.Keep {
		return report, err
	}
	clearContext, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTimeout)
	defer cancel()
	return report, errors.Join(err, course.stage.clear(clearContext, remover))
}

// run does the load.
func (c *course) run(ctx context.Context) *Report {
	c.begin = time.Now()
	c.counted = c.begin.Add(c.config.Warmup)
	c.end = c.counted.Add(c.config.Duration)
	workers := make([]*worker, c.config.Connections)
	for number := range workers {
		workers[number] = newWorker(c, number, c.config.Seed)
	}
	cpu := cpuTime()
	var running sync.WaitGroup
	for _, w := range workers {
		running.Go(func() { w.run(ctx) })
	}
	finished := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { c.watch(workers, finished) })
	running.Wait()
	close(finished)
	watching.Wait()
	report := newReport(c, workers, cpuTime()-cpu)
	report.Interrupted = ctx.Err() != nil
	return report
}

// watch tells about the progress every second until the load is finished.
func (c *course) watch(workers []*worker, finished <-chan struct{}) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var previous uint64
	for {
		select {
		case <-finished:
			return
		case <-ticker.C:
		}
		progress := Progress{Elapsed: time.Since(c.begin)}
		for _, w := range workers {
			progress.Operations += w.succeeded.Load()
			progress.Refusals += w.refused.Load()
			progress.Failures += w.failed.Load()
		}
		progress.Second = progress.Operations - previous
		previous = progress.Operations
		c.config.Progress(progress)
	}
}
