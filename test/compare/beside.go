package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// beside measures DEMS and etcd in turn, round after round, so that what else the machine does hits both; it reports the
// median of each rate and of the ratios within a round.
type beside struct {
	settings
	stderr io.Writer
	bin    string // folder of demsd and demsctl
}

// round is one round's rates, operations per second.
type round struct{ dems, demsHot, demsReads, etcd, etcdHot float64 }

func runBeside(ctx context.Context, s settings, stdout, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp(s.dir, "dems-beside-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &beside{settings: s, stderr: stderr, bin: filepath.Join(dir, "bin")}
	if err := b.build(ctx); err != nil {
		return err
	}
	var rounds []round
	for i := range s.rounds {
		fmt.Fprintf(stderr, "round %d of %d\n", i+1, s.rounds)
		r, err := b.measure(ctx, filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			return err
		}
		rounds = append(rounds, r)
	}
	return writeRounds(stdout, rounds)
}

// build builds demsd and demsctl.
func (b *beside) build(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", b.bin+string(filepath.Separator), "./cmd/...")
	build.Dir, build.Stderr = filepath.Join("..", ".."), b.stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build DEMS: %w", err)
	}
	return nil
}

// measure does one round: DEMS, then etcd, each alone on the machine.
func (b *beside) measure(ctx context.Context, dataDir string) (round, error) {
	var r round
	err := b.withDEMS(ctx, dataDir, func(url string) error {
		for _, scenario := range []struct {
			rate *float64
			args []string
		}{
			{&r.dems, []string{"--events", strconv.Itoa(b.events)}},
			{&r.demsHot, []string{"--hot"}},
			{&r.demsReads, []string{"--mix", "read", "--events", strconv.Itoa(b.events)}},
		} {
			rate, err := b.bench(ctx, url, scenario.args)
			if err != nil {
				return err
			}
			*scenario.rate = rate
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	reports, err := measureEtcd(ctx, b.settings, b.stderr)
	if err != nil {
		return r, err
	}
	r.etcd, r.etcdHot = reports[0].Rate, reports[1].Rate
	return r, nil
}

// withDEMS runs a development cluster while use runs.
func (b *beside) withDEMS(ctx context.Context, dataDir string, use func(url string) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dev := exec.CommandContext(ctx, filepath.Join(b.bin, "demsd"), "dev", "--listen", "127.0.0.1:0", "--data-dir", dataDir, "--log-level", "warn")
	dev.Stderr = b.stderr
	dev.Cancel = func() error { return dev.Process.Signal(syscall.SIGTERM) }
	dev.WaitDelay = 30 * time.Second
	output, err := dev.StdoutPipe()
	if err != nil {
		return err
	}
	if err := dev.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err == nil {
		err = use(strings.TrimSpace(strings.TrimPrefix(line, "ready: ")))
	}
	cancel()
	if waited := dev.Wait(); waited != nil && !errors.Is(waited, context.Canceled) {
		err = errors.Join(err, fmt.Errorf("demsd dev: %w", waited))
	}
	return err
}

// bench has demsctl do a load and returns the operations done in a second: bookings only, where it booked. (A hot event that
// every customer has booked is cancelled again, which takes about half of the time.)
func (b *beside) bench(ctx context.Context, url string, args []string) (float64, error) {
	args = append([]string{"bench", "--endpoint", url, "-o", "json", "--connections", strconv.Itoa(b.connections),
		"--duration", b.duration.String()}, args...)
	fmt.Fprintln(b.stderr, "demsctl", strings.Join(args, " "))
	command := exec.CommandContext(ctx, filepath.Join(b.bin, "demsctl"), args...)
	var stdout bytes.Buffer
	command.Stdout, command.Stderr = &stdout, b.stderr
	if err := command.Run(); err != nil {
		return 0, fmt.Errorf("demsctl bench: %w", err)
	}
	var got struct {
		OperationsPerSecond float64 `json:"operationsPerSecond"`
		Kinds               []struct {
			Operation           string  `json:"operation"`
			OperationsPerSecond float64 `json:"operationsPerSecond"`
		} `json:"kinds"`
		Refusals map[string]int64 `json:"refusals"`
		Failures map[string]int64 `json:"failures"`
	}
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		return 0, fmt.Errorf("demsctl bench: %w", err)
	}
	if len(got.Refusals)+len(got.Failures) > 0 {
		return 0, fmt.Errorf("demsctl bench: refusals %v, failures %v", got.Refusals, got.Failures)
	}
	for _, kind := range got.Kinds {
		if kind.Operation == "bookEvent" {
			return kind.OperationsPerSecond, nil
		}
	}
	return got.OperationsPerSecond, nil
}

// median returns the median of what of each round is.
func median(rounds []round, of func(round) float64) float64 {
	values := make([]float64, len(rounds))
	for i, r := range rounds {
		values[i] = of(r)
	}
	slices.SortFunc(values, cmp.Compare)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

func writeRounds(w io.Writer, rounds []round) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "DEMS\tper second\tbeside\tper second\tratio")
	row := func(name string, dems func(round) float64, other string, beside func(round) float64) {
		ratio := median(rounds, func(r round) float64 { return dems(r) / beside(r) })
		fmt.Fprintf(table, "%s\t%.0f\t%s\t%.0f\t%.1f\n", name, median(rounds, dems), other, median(rounds, beside), ratio)
	}
	booked := func(r round) float64 { return r.dems }
	row("bookings, spread", booked, "etcd", func(r round) float64 { return r.etcd })
	row("bookings, one event", func(r round) float64 { return r.demsHot }, "etcd", func(r round) float64 { return r.etcdHot })
	row("verified reads", func(r round) float64 { return r.demsReads }, "DEMS bookings", booked)
	return table.Flush()
}
