//go:build linux

package test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	growthInterval = 500 * time.Millisecond
	// mostGrowth and growthSlack are by how much, and beyond that by how many bytes, the later half of a measurement may exceed the
	// earlier one and still count as level: garbage collection and reused pages of files make both go up and down.
	mostGrowth  = 1.10
	growthSlack = 8 << 20
)

// growth watches what processes take, until it is stopped.
type growth struct {
	cluster *handCluster
	ending  sync.Once
	stop    chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex
	memory map[string][]int64 // bytes of their own, by process; of those that are never started again
	disk   map[string][]int64 // bytes of Raft log, snapshots and all else in a node's folder, without its city logs
	seen   map[string]bool    // snapshots, as NODE/NAME
}

// watchGrowth begins to watch: the memory of some processes, and the disk of all nodes.
func watchGrowth(c *handCluster, steady ...string) *growth {
	g := &growth{cluster: c, stop: make(chan struct{}), memory: map[string][]int64{}, disk: map[string][]int64{}, seen: map[string]bool{}}
	c.t.Cleanup(func() { g.finish() })
	g.running.Go(func() {
		ticker := time.NewTicker(growthInterval)
		defer ticker.Stop()
		for {
			g.measure(steady)
			select {
			case <-ticker.C:
			case <-g.stop:
				return
			}
		}
	})
	return g
}

func (g *growth) measure(steady []string) {
	for _, name := range steady {
		if bytes, err := ownMemory(g.cluster.child(name).command.Process.Pid); err == nil {
			g.mu.Lock()
			g.memory[name] = append(g.memory[name], bytes)
			g.mu.Unlock()
		}
	}
	for _, name := range g.cluster.nodes {
		bytes := int64(0)
		folder := filepath.Join(g.cluster.dataDir, name)
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist): // gone since it was listed
				return nil
			case err != nil:
				return err
			case entry.IsDir() && filepath.Dir(path) == folder && entry.Name() == "logs":
				return fs.SkipDir
			case entry.IsDir() && filepath.Base(filepath.Dir(path)) == "snapshots" && !strings.HasSuffix(path, ".tmp"):
				g.mu.Lock()
				g.seen[filepath.Join(name, entry.Name())] = true
				g.mu.Unlock()
			case path == filepath.Join(folder, "log"): // what the process logs is the operator's to keep short
				return nil
			}
			if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
				bytes += info.Size()
			}
			return nil
		})
		if err == nil {
			g.mu.Lock()
			g.disk[name] = append(g.disk[name], bytes)
			g.mu.Unlock()
		}
	}
}

// ownMemory returns how many bytes of memory a process has that are no files.
func ownMemory(pid int) (int64, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, found := strings.CutPrefix(line, "RssAnon:"); found {
			kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, errors.New("no RssAnon")
}

// finish ends the watching and returns how many snapshots were seen.
func (g *growth) finish() (snapshots int) {
	g.ending.Do(func() { close(g.stop) })
	g.running.Wait()
	return len(g.seen)
}

// expectLevel checks that nothing grew from the second third of the time to the last one.
func (g *growth) expectLevel(t *testing.T) {
	t.Helper()
	for what, all := range map[string]map[string][]int64{"memory": g.memory, "disk": g.disk} {
		for name, series := range all {
			earlier, later, grows := trend(series)
			t.Logf("%s of %s: %.1f MiB in the second third of the time, %.1f MiB in the last", what, name, mebibytes(earlier), mebibytes(later))
			if grows {
				t.Errorf("the %s of %s grows: %s", what, name, sketch(series))
			}
		}
	}
}

// trend returns the medians of the second and of the last third of a series, and whether it grows from one to the other.
func trend(series []int64) (earlier, later int64, grows bool) {
	third := len(series) / 3
	if third == 0 {
		return 0, 0, true // nothing was measured, which shows nothing
	}
	median := func(part []int64) int64 { return slices.Sorted(slices.Values(part))[len(part)/2] }
	earlier, later = median(series[third:2*third]), median(series[2*third:])
	return earlier, later, float64(later) > mostGrowth*float64(earlier)+growthSlack
}

func mebibytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// sketch tells a series in twenty numbers.
func sketch(series []int64) string {
	var text []string
	for i := range 20 {
		if at := i * len(series) / 20; at < len(series) {
			text = append(text, fmt.Sprintf("%.1f", mebibytes(series[at])))
		}
	}
	return strings.Join(text, " ") + " MiB"
}

// TestTrend shows what counts as growing.
func TestTrend(t *testing.T) {
	t.Parallel()
	level, leaking, sawtooth := []int64{}, []int64{}, []int64{}
	for i := range int64(300) {
		level = append(level, 100<<20+i%7<<20)
		leaking = append(leaking, 100<<20+i<<20/4)
		sawtooth = append(sawtooth, 60<<20+i%30<<20)
	}
	for name, test := range map[string]struct {
		series []int64
		grows  bool
	}{"level": {level, false}, "leaking": {leaking, true}, "sawtooth": {sawtooth, false}, "nothing": {nil, true}} {
		if _, _, grows := trend(test.series); grows != test.grows {
			t.Errorf("%s grows: %t", name, grows)
		}
	}
}
