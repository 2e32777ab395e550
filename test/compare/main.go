// Command compare measures the booking of DEMS done as a transaction in etcd: three etcd members, each a process of its
// own on this machine with fsync on, and clients that read an event and then, in one transaction, take a seat and write
// the booking if nothing changed in between. It is a module of its own, so that etcd stays out of DEMS.
//
// It owns the processes that it starts and the data folder that it makes, and ends and removes them. Every goroutine ends
// before its function returns.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// settings is what the command line says.
type settings struct {
	duration    time.Duration
	connections int
	events      int
	dir         string
	read        string
	json        bool
	rounds      int
	kills       int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == memberCommand {
		return runMember(ctx, args[1:], stdin, stdout)
	}
	var s settings
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.DurationVar(&s.duration, "duration", 10*time.Second, "how long each scenario is measured")
	flags.IntVar(&s.connections, "connections", 64, "clients, each with a connection of its own and one booking at a time")
	flags.IntVar(&s.events, "events", 1000, "events of the first scenario; the second has one")
	flags.StringVar(&s.dir, "dir", os.TempDir(), "where the data folder is made; put it on the disk that DEMS is measured on")
	flags.StringVar(&s.read, "read", "serializable", "how an event is read first: serializable (any member's state, cheap; "+
		"the transaction checks it) or linearizable")
	flags.BoolVar(&s.json, "json", false, "print JSON instead of a table")
	flags.IntVar(&s.rounds, "rounds", 0, "measure DEMS and etcd in turn, so often, and report medians and ratios")
	flags.IntVar(&s.kills, "kills", 0, "kill the leader of DEMS and of etcd so often, under the same load, and report the pauses")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || s.duration <= 0 || s.connections < 1 || s.events < 1 || s.rounds < 0 || s.kills < 0 || s.read != "serializable" && s.read != "linearizable" {
		flags.Usage()
		return fmt.Errorf("wrong usage")
	}
	if s.kills > 0 {
		return runKills(ctx, s, stdout, stderr)
	}
	if s.rounds > 0 {
		return runBeside(ctx, s, stdout, stderr)
	}
	return compare(ctx, s, stdout, stderr)
}

// compare measures etcd and reports.
func compare(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	reports, err := measureEtcd(ctx, s, stderr)
	if err != nil {
		return err
	}
	if s.json {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(reports)
	}
	return writeTable(stdout, reports)
}

// measureEtcd starts a cluster and runs both scenarios.
func measureEtcd(ctx context.Context, s settings, stderr io.Writer) (reports []report, err error) {
	dir, err := os.MkdirTemp(s.dir, "dems-compare-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintln(stderr, "starting three etcd members")
	cluster, err := startCluster(ctx, dir, stderr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.stop()) }()
	for _, scenario := range []struct {
		name   string
		events int
	}{{"spread", s.events}, {"hot", 1}} {
		fmt.Fprintf(stderr, "%s: %d connections, %d events, %v\n", scenario.name, s.connections, scenario.events, s.duration)
		load := load{name: scenario.name, events: scenario.events, settings: s, endpoints: cluster.endpoints()}
		measured, err := load.run(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", scenario.name, err)
		}
		reports = append(reports, measured)
	}
	return reports, nil
}
