package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dems"
	"dems/client"
	"dems/client/load"
)

func (p *program) benchCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "bench",
		Short: "Put a front end under load and report",
		Long: `Make events, do operations on them over many connections, remove the events, and report rates, latencies, refusals and
failures. Operations are done as the events' own users, so authentication has to be off. Every connection has one request at
a time; nothing is asked again, and neither a refusal nor a failure counts as an operation done.

The exit status is 0 where there is a report with at least one operation done, whatever else it says.`,
		Example: `  demsctl bench --connections 64 --duration 10s
  demsctl bench --mix read --duration 10s -o json
  demsctl bench --hot --operations 100000
  demsctl bench --connections 1 --rate 20      latency of an idle system`,
		Args: cobra.NoArgs,
	}
	var (
		config load.Config
		mix    string
		hot    bool
		keys   bool
	)
	flags := command.Flags()
	flags.IntVar(&config.Connections, "connections", 64, "connections, each with one request at a time")
	flags.DurationVar(&config.Duration, "duration", 10*time.Second, "how long the load lasts after the warm-up")
	flags.Uint64Var(&config.Operations, "operations", 0, "end after so many operations; without --duration there is no other end")
	flags.DurationVar(&config.Warmup, "warmup", time.Second, "how long operations are done before any is counted")
	flags.Float64Var(&config.Rate, "rate", 0, "operations that begin in a second; 0: as many as possible")
	flags.StringVar(&mix, "mix", "book", "book, read (schedules and single events) or mixed (half and half)")
	flags.IntVar(&config.Events, "events", 1000, "events that the load is spread over")
	flags.BoolVar(&hot, "hot", false, "one event for everything")
	flags.IntVar(&config.Customers, "customers", 10_000, "customers of each city")
	flags.BoolVar(&keys, "keys", true, "send idempotency keys, as clients do")
	flags.BoolVar(&config.Keep, "keep", false, "do not remove the events afterwards")
	flags.Uint64Var(&config.Seed, "seed", 0, "which dates, events and customers are taken; 0: a random one")
	command.RunE = func(command *cobra.Command, _ []string) error {
		config.Endpoints = p.endpoints
		config.Timeout = p.timeout
		config.Mix = load.Mix(mix)
		config.WithoutKeys = !keys
		if hot {
			config.Events = 1
		}
		if config.Operations > 0 && !flags.Changed("duration") {
			config.Duration = 24 * time.Hour
		}
		return p.bench(command, config)
	}
	return command
}

func (p *program) bench(command *cobra.Command, config load.Config) error {
	if config.Connections < 1 || config.Events < 1 || config.Customers < 1 || config.Duration <= 0 {
		return errors.New("--connections, --events, --customers and --duration are above zero")
	}
	if p.chatty {
		config.Progress = func(progress load.Progress) {
			fmt.Fprintf(p.stderr, "%4.0f s  %8d operations/s  %10d done  %6d refused  %6d failed\n",
				progress.Elapsed.Seconds(), progress.Second, progress.Operations, progress.Refusals, progress.Failures)
		}
	}
	report, err := load.Run(command.Context(), config)
	if report == nil {
		return err
	}
	if err != nil {
		fmt.Fprintf(p.stderr, "demsctl: %s\n", printable(err.Error()))
	}
	body, err := json.Marshal(report)
	if err != nil {
		return err
	}
	if err := p.emit(body, func(page *page) { writeReport(page, report) }); err != nil {
		return err
	}
	if report.Operations == 0 {
		return &client.Error{Code: dems.Unavailable, Detail: "No operation was done; the report says why."}
	}
	return nil
}

func writeReport(page *page, report *load.Report) {
	page.line("%d operations in %.2f s: %.0f operations/s over %d connections", report.Operations, report.Seconds, report.PerSecond, report.Connections)
	page.line("mix %s, %d events, %d customers of each city, idempotency keys %t, seed %d, client %.1f us processor time an operation",
		report.Mix, report.Events, report.Customers, report.Keys, report.Seed, report.ClientMicroseconds)
	page.line("")
	rows := make([][]cell, 0, len(report.Kinds)+1)
	row := func(name string, operations uint64, perSecond float64, l load.Latency) {
		fields := cells(name, operations, fmt.Sprintf("%.0f", perSecond))
		for _, milliseconds := range []float64{l.P50, l.P90, l.P99, l.P999, l.Max} {
			fields = append(fields, cell{text: fmt.Sprintf("%.3f", milliseconds)})
		}
		rows = append(rows, fields)
	}
	for _, kind := range report.Kinds {
		row(kind.Operation, kind.Operations, kind.PerSecond, kind.Latency)
	}
	if len(report.Kinds) != 1 {
		row("all", report.Operations, report.PerSecond, report.Latency)
	}
	page.table([]string{"OPERATION", "DONE", "PER SECOND", "P50 MS", "P90 MS", "P99 MS", "P99.9 MS", "MAX MS"}, rows)
	writeCounts(page, "REFUSED", report.Refusals)
	writeCounts(page, "FAILED", report.Failures)
}

func writeCounts(page *page, title string, counts map[string]uint64) {
	page.line("")
	if len(counts) == 0 {
		page.line("%s  none", title)
		return
	}
	var rows [][]cell
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		rows = append(rows, cells(name, counts[name]))
	}
	page.table([]string{title, "COUNT"}, rows)
}
