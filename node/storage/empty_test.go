package storage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dems"
)

// keptFiles stay when a folder is emptied.
var keptFiles = []string{"stateless-reset.key", "pid", "log", "notes of an operator"}

// lived returns a data folder of n1 in which an incarnation has left all that there can be.
func lived(t *testing.T, incarnation uint64) string {
	t.Helper()
	dir := t.TempDir()
	folder := mustOpen(t, config(dir))
	fill(t, folder, 1, 20)
	snapshotAt(t, folder, 5)
	snapshotAt(t, folder, 10)
	mustClose(t, folder)
	marker := folder.Marker
	marker.Incarnation = incarnation
	if err := errors.Join(writeMarker(dir, marker), os.Mkdir(filepath.Join(dir, CityLogFolder), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"MTL.log", "MTL.index", "OTW.log", "OTW.log.damaged", "OTW.fetch-1234"} {
		write(t, filepath.Join(dir, CityLogFolder, name), "old records")
	}
	for _, name := range keptFiles {
		write(t, filepath.Join(dir, name), "stays")
	}
	return dir
}

// content returns every file of a folder with what is in it.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, dir+"/")] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// expectNew makes sure that a folder opens as that of a new incarnation and holds nothing of an older one.
func expectNew(t *testing.T, dir string, incarnation uint64) {
	t.Helper()
	folder := mustOpen(t, config(dir))
	_, err := folder.Log.GetUint64([]byte(keyTerm))
	if !folder.Fresh() || folder.Marker.Incarnation != incarnation || err == nil {
		t.Errorf("%+v, term: %v", folder, err)
	}
	mustClose(t, folder)
	for name, text := range content(t, dir) {
		if name != logFile && name != markerFile && !(slices.Contains(keptFiles, name) && text == "stays") {
			t.Errorf("%s is left", name)
		}
	}
}

// stopAt returns a failpoint that ends the call with a panic at a step.
func stopAt(step string) func(string) {
	return func(at string) {
		if at == step {
			panic(stopped(step))
		}
	}
}

type stopped string

// until runs what a failpoint may end.
func until(do func() error) (at string, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			at = string(cause.(stopped))
		}
	}()
	return "", do()
}

func TestEmptiedFolderIsTheNextIncarnations(t *testing.T) {
	for incarnation, next := range map[uint64]uint64{1: 2, 2: 3, 3: 9} {
		dir := lived(t, incarnation)
		var seen []string
		err := Empty(t.Context(), config(dir), proof(t, incarnation, next), func(step string) { seen = append(seen, step) })
		if err != nil || !slices.Equal(seen, Steps) {
			t.Fatalf("%v, steps %q", err, seen)
		}
		expectNew(t, dir, next)
		for _, name := range keptFiles {
			if content(t, dir)[name] != "stays" {
				t.Errorf("%s did not stay", name)
			}
		}
		folder := mustOpen(t, config(dir))
		fill(t, folder, 1, 5) // a new life
		mustClose(t, folder)
		folder = mustOpen(t, config(dir))
		if folder.Fresh() || folder.Extent.Last != 5 || folder.Marker.Incarnation != next {
			t.Errorf("%+v", folder)
		}
		mustClose(t, folder)
	}
}

func TestNothingIsDeletedWithoutTheRightProof(t *testing.T) {
	for name, test := range map[string]struct {
		incarnation uint64
		removal     *Removal
		change      func(t *testing.T, config *Config)
		want        string
	}{
		"no proof":            {1, nil, nil, "nothing is deleted without the proof"},
		"an empty proof":      {1, new(Removal), nil, "nothing is deleted"},
		"of the life before":  {2, proof(t, 1, 2), nil, "is that of incarnation 2 already"},
		"of a life long gone": {3, proof(t, 1, 2), nil, "incarnation 1 was removed, but"},
		"of a life to come":   {1, proof(t, 2, 3), nil, "incarnation 2 was removed, but"},
		"of another node": {1, proof(t, 1, 2), func(t *testing.T, config *Config) {
			config.ID = "n2"
		}, "node n1 was removed, and this is node n2"},
		"in another node's folder": {1, proof(t, 1, 2), func(t *testing.T, config *Config) {
			write(t, filepath.Join(config.Dir, markerFile), strings.Replace(content(t, config.Dir)[markerFile], "n1", "n2", 1))
		}, "belongs to node n2"},
		"for other cities": {1, proof(t, 1, 2), func(t *testing.T, config *Config) {
			config.Cities = config.Cities[:1]
		}, "the cities of a cluster do not change"},
		"node.json is damaged": {1, proof(t, 1, 2), func(t *testing.T, config *Config) {
			write(t, filepath.Join(config.Dir, markerFile), "{")
		}, "is damaged"},
		"node.json is missing": {1, proof(t, 1, 2), func(t *testing.T, config *Config) {
			remove(t, filepath.Join(config.Dir, markerFile))
		}, "but no node.json"},
		"node.json and snapshots are missing": {1, proof(t, 1, 2), func(t *testing.T, config *Config) {
			remove(t, filepath.Join(config.Dir, markerFile))
			remove(t, filepath.Join(config.Dir, snapshotFolder))
		}, "but no node.json"},
		"only snapshots are left": {1, proof(t, 1, 2), func(t *testing.T, config *Config) {
			remove(t, filepath.Join(config.Dir, markerFile))
			remove(t, filepath.Join(config.Dir, logFile))
		}, "but no node.json"},
	} {
		t.Run(name, func(t *testing.T) {
			config := config(lived(t, test.incarnation))
			if test.change != nil {
				test.change(t, &config)
			}
			before := content(t, config.Dir)
			err := Empty(t.Context(), config, test.removal, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "nothing is deleted") {
				t.Errorf("%v\nwant %q", err, test.want)
			}
			if after := content(t, config.Dir); !maps.Equal(before, after) {
				t.Errorf("the folder changed: it has %q", slices.Sorted(maps.Keys(after)))
			}
		})
	}
}

func TestOpenFolderIsNotEmptied(t *testing.T) {
	dir := lived(t, 1)
	folder := mustOpen(t, config(dir))
	if err := Empty(t.Context(), config(dir), proof(t, 1, 2), nil); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	mustClose(t, folder)
	folder = mustOpen(t, config(dir))
	if folder.Extent.Last != 20 || folder.Marker.Incarnation != 1 {
		t.Errorf("%+v", folder)
	}
	mustClose(t, folder)
}

// TestEmptyingIsFinished stops an emptying at each step, stops finishing it at each step, and then starts the node.
func TestEmptyingIsFinished(t *testing.T) {
	for i, first := range Steps {
		for _, second := range append([]string{""}, Steps[1:]...) {
			t.Run(first+" "+second, func(t *testing.T) {
				dir, removal := lived(t, 2), proof(t, 2, 3)
				if at, err := until(func() error { return Empty(t.Context(), config(dir), removal, stopAt(first)) }); at != first || err != nil {
					t.Fatalf("stopped at %q, %v", at, err)
				}
				if _, err := os.Stat(filepath.Join(dir, removalFile)); (err == nil) != (first != "empty-done") {
					t.Fatal(err)
				}
				finishing := config(dir)
				at, err := until(func() error {
					_, err := finish(t.Context(), &finishing, stopAt(second))
					return err
				})
				if err != nil || at != second && i < slices.Index(Steps, "empty-marker") {
					t.Fatalf("stopped at %q, %v", at, err)
				}
				expectNew(t, dir, 3)
			})
		}
	}
}

// TestEmptyingIsBegunAgain calls Empty, not Open, after a crash: with the same proof, or with that of the next removal.
func TestEmptyingIsBegunAgain(t *testing.T) {
	for _, step := range Steps {
		for incarnation, next := range map[uint64]uint64{1: 2, 2: 3} {
			dir := lived(t, 1)
			if at, err := until(func() error { return Empty(t.Context(), config(dir), proof(t, 1, 2), stopAt(step)) }); at != step || err != nil {
				t.Fatalf("stopped at %q, %v", at, err)
			}
			err := Empty(t.Context(), config(dir), proof(t, incarnation, next), nil)
			if again := step == "empty-done" && next == 2; err != nil != again {
				t.Errorf("after %s: %v", step, err)
			}
			expectNew(t, dir, next)
		}
	}
}

// TestEmptyingIsKilled kills the process at each step.
func TestEmptyingIsKilled(t *testing.T) {
	for _, step := range Steps {
		dir := lived(t, 1)
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), childFolder+"="+dir, childStep+"="+step)
		out, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		killed := errors.Join(child.Process.Kill(), child.Wait())
		if line != step+"\n" || killed == nil || !strings.Contains(killed.Error(), "signal: killed") {
			t.Fatalf("%q %v %v", line, err, killed)
		}
		expectNew(t, dir, 2)
	}
}

// The child of TestEmptyingIsKilled finds in its environment what to empty and where to wait for its end.
const childFolder, childStep = "DEMS_TEST_EMPTY", "DEMS_TEST_EMPTY_STEP"

func emptyAndWait(dir string) {
	removal, err := ProveRemoval("n1", 1, three(), statements(2, "n2", "n3"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(Empty(context.Background(), config(dir), removal, func(step string) {
		if step == os.Getenv(childStep) {
			fmt.Println(step)
			select {}
		}
	}))
}

func TestUnusableRemovalFile(t *testing.T) {
	good, err := proof(t, 1, 2).encode()
	if err != nil {
		t.Fatal(err)
	}
	other := &Removal{id: "n2", incarnation: 1, next: 2, cluster: three(), witnesses: []dems.NodeID{"n1", "n3"}}
	foreign, err := other.encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		incarnation uint64
		text, want  string
	}{
		"empty":              {1, "", "is damaged"},
		"half":               {1, string(good[:len(good)/2]), "is damaged"},
		"wrong checksum":     {1, strings.Replace(string(good), `"next": 2`, `"next": 3`, 1), "wrong checksum"},
		"another node's":     {1, string(foreign), "does not belong here, so nothing is deleted: node n2 was removed, and this is node n1"},
		"of an earlier life": {3, string(good), "incarnation 1 was removed, but"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := lived(t, test.incarnation)
			write(t, filepath.Join(dir, removalFile), test.text)
			before := content(t, dir)
			expect(t, config(dir), test.want)
			expect(t, config(dir), "move the file away and start the node again")
			if err := Empty(t.Context(), config(dir), proof(t, 1, 2), nil); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Error(err)
			}
			if after := content(t, dir); !maps.Equal(before, after) {
				t.Errorf("the folder changed: it has %q", slices.Sorted(maps.Keys(after)))
			}
			remove(t, filepath.Join(dir, removalFile)) // as the error says
			folder := mustOpen(t, config(dir))
			if folder.Extent.Last != 20 {
				t.Errorf("%+v", folder)
			}
			mustClose(t, folder)
		})
	}
}

// TestProofOfTheLifeBeforeDeletesNothing has a removal.json that came back, from a backup perhaps, while the incarnation
// that followed is alive.
func TestProofOfTheLifeBeforeDeletesNothing(t *testing.T) {
	dir := lived(t, 2)
	before := content(t, dir)
	data, err := proof(t, 1, 2).encode()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, removalFile), string(data))
	folder := mustOpen(t, config(dir))
	if folder.Fresh() || folder.Extent.Last != 20 || folder.Newest == nil {
		t.Errorf("%+v", folder)
	}
	mustClose(t, folder)
	if after := content(t, dir); !slices.Equal(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after))) {
		t.Errorf("the folder has %q", slices.Sorted(maps.Keys(after)))
	}
}

func TestEmptyingAFolderWithoutAPast(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, dir string){
		"no folder":            func(t *testing.T, dir string) { remove(t, dir) },
		"an empty folder":      func(t *testing.T, dir string) {},
		"raft.db of no bytes":  func(t *testing.T, dir string) { write(t, filepath.Join(dir, logFile), "") },
		"opened but never run": func(t *testing.T, dir string) { mustClose(t, mustOpen(t, config(dir))) },
		"without its node.json": func(t *testing.T, dir string) {
			mustClose(t, mustOpen(t, config(dir)))
			remove(t, filepath.Join(dir, markerFile))
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, step := range append([]string{""}, Steps...) {
				dir := t.TempDir()
				make(t, dir)
				if at, err := until(func() error { return Empty(t.Context(), config(dir), proof(t, 1, 7), stopAt(step)) }); at != step || err != nil {
					t.Fatalf("stopped at %q, %v", at, err)
				}
				expectNew(t, dir, 7)
			}
		})
	}
}

// TestEmptyingThatFails finds a file where a folder is wanted. When that is put right, the next start goes on.
func TestEmptyingThatFails(t *testing.T) {
	for _, name := range []string{snapshotFolder, CityLogFolder} {
		dir := lived(t, 1)
		remove(t, filepath.Join(dir, name))
		write(t, filepath.Join(dir, name), "")
		err := Empty(t.Context(), config(dir), proof(t, 1, 2), nil)
		if err == nil || !strings.Contains(err.Error(), "write an emptied data folder") || !strings.Contains(err.Error(), dir) {
			t.Error(err)
		}
		expect(t, config(dir), "write an emptied data folder")
		remove(t, filepath.Join(dir, name))
		expectNew(t, dir, 2)
	}
}

// TestCrashOfALaterIncarnationBeforeItsFirstEntry leaves the term and a vote, which such a node may have before it has an
// entry: it comes with the leader's first message. What it has promised stays.
func TestCrashOfALaterIncarnationBeforeItsFirstEntry(t *testing.T) {
	dir := lived(t, 1)
	if err := Empty(t.Context(), config(dir), proof(t, 1, 2), nil); err != nil {
		t.Fatal(err)
	}
	folder := mustOpen(t, config(dir))
	if err := errors.Join(folder.Log.SetUint64([]byte(keyTerm), 9), folder.Log.SetUint64([]byte(keyVoteTerm), 9),
		folder.Log.Set([]byte(keyVote), []byte("n3"))); err != nil {
		t.Fatal(err)
	}
	mustClose(t, folder)
	for range 2 {
		folder = mustOpen(t, config(dir))
		term, err := folder.Log.GetUint64([]byte(keyTerm))
		vote, voteErr := folder.Log.Get([]byte(keyVote))
		if !folder.Fresh() || term != 9 || string(vote) != "n3" || err != nil || voteErr != nil {
			t.Errorf("%+v, term %d, vote %q, %v, %v", folder, term, vote, err, voteErr)
		}
		mustClose(t, folder)
	}
	remove(t, filepath.Join(dir, logFile))
	expect(t, config(dir), "is missing")
}
