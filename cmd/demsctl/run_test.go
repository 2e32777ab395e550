package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"dems"
	"dems/client"
	"dems/client/load"
	"dems/internal/onenode"
)

// started returns a front end with a cluster of its own.
func started(t *testing.T) *onenode.FrontEnd {
	t.Helper()
	cluster, err := onenode.NewCluster()
	if err != nil {
		t.Fatal(err)
	}
	frontEnd, err := onenode.Start(cluster, "fe1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(frontEnd.Close)
	return frontEnd
}

// environment returns variables for run: the front end, a folder for logs, and pairs of name and value.
func environment(t *testing.T, frontEnd *onenode.FrontEnd, pairs ...string) func(string) (string, bool) {
	t.Helper()
	variables := map[string]string{"DEMS_ENDPOINTS": frontEnd.URL, "DEMS_LOG_DIR": t.TempDir()}
	for pair := range slices.Chunk(pairs, 2) {
		variables[pair[0]] = pair[1]
	}
	return func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	}
}

// watcher is a writer that calls a function with everything that was written so far.
type watcher struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written func(text string)
}

func (w *watcher) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(text)
	w.written(w.text.String())
	return len(text), nil
}

func TestEveryCodeHasAnExitStatus(t *testing.T) {
	for _, code := range dems.Codes() {
		status, ok := exitStatuses[code]
		if !ok || status == exitDone || exitStatus(&client.Error{Code: code}) != status {
			t.Errorf("%s: exit status %d", code, status)
		}
	}
	for err, want := range map[error]int{
		nil:                                 exitDone,
		errors.New("unknown flag"):          exitUsage,
		&client.UserLogError{Err: io.EOF}:   exitUsage,
		&client.Error{Code: dems.Code(255)}: exitIndeterminate,
		&lineError{&client.Error{Code: dems.EventFull}}: exitRefused,
	} {
		if got := exitStatus(err); got != want {
			t.Errorf("%v: exit status %d, want %d", err, got, want)
		}
	}
}

func TestEveryCommandIsDescribed(t *testing.T) {
	var visit func(command *cobra.Command)
	visit = func(command *cobra.Command) {
		if command.Example == "" || command.Short == "" {
			t.Errorf("%s has no example or no description", command.CommandPath())
		}
		for _, sub := range command.Commands() {
			visit(sub)
		}
	}
	visit(newRoot(&program{}))
}

func TestLogFollows(t *testing.T) {
	frontEnd := started(t)
	lookup := environment(t, frontEnd, "DEMS_USER", "TORM0001")
	add := func(id string) {
		if status := run(t.Context(), []string{"event", "add", id, "seminar", "--capacity", "1"}, nil, io.Discard, io.Discard, lookup); status != 0 {
			t.Errorf("adding %s: exit status %d", id, status)
		}
	}
	add("TORM100519")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var once sync.Once
	output := &watcher{written: func(text string) {
		if strings.Contains(text, "TORM100519") {
			once.Do(func() { add("TORA100519") })
		}
		if strings.Contains(text, "TORA100519") {
			cancel()
		}
	}}
	var complaints bytes.Buffer
	status := run(ctx, []string{"log", "TOR", "--follow", "--interval", "1ms"}, nil, output, &complaints, lookup)
	if status != 0 || complaints.Len() > 0 || strings.Count(output.text.String(), "\n") != 2 {
		t.Errorf("exit status %d, output:\n%s%s", status, output.text.String(), complaints.String())
	}
}

func TestLogOfARecordThatIsNone(t *testing.T) {
	p := &program{output: "table"}
	for record, want := range map[string]string{
		"nonsense\x1b[0m":                         "nonsense\uFFFD[0m",
		`{"seq":1}`:                               `{"seq":1}`,
		`{"op":"a","by":"b","status":"\u001b"}`:   "       0  b a: \uFFFD: ",
		`{"op":"a","by":"b","eventType":"party"}`: "       0  b a party: : ",
	} {
		if got := strings.TrimSpace(string(p.formatRecord([]byte(record)))); got != strings.TrimSpace(want) {
			t.Errorf("%q is printed as %q, want %q", record, got, want)
		}
	}
}

func TestFollowingEndsWithAnError(t *testing.T) {
	frontEnd := started(t)
	var complaints bytes.Buffer
	status := run(t.Context(), []string{"log", "XYZ", "--follow"}, nil, io.Discard, &complaints, environment(t, frontEnd))
	if status != exitRefused || !strings.Contains(complaints.String(), "no such city") {
		t.Errorf("exit status %d: %s", status, complaints.String())
	}
}

// TestShellEndsWhenItIsInterrupted has a prompt nobody writes to.
func TestShellEndsWhenItIsInterrupted(t *testing.T) {
	frontEnd := started(t)
	ctx, cancel := context.WithCancel(t.Context())
	input, writer := io.Pipe()
	defer writer.Close()
	output := &watcher{written: func(string) { cancel() }}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"shell"}, input, output, io.Discard, environment(t, frontEnd, "DEMS_USER", "TORC0001"))
	}()
	io.WriteString(writer, "schedule\n")
	if status := <-ended; status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestShellRefusesALineThatIsTooLong(t *testing.T) {
	frontEnd := started(t)
	var complaints bytes.Buffer
	input := strings.NewReader(strings.Repeat("x", maxLineBytes+1))
	status := run(t.Context(), []string{"shell"}, input, io.Discard, &complaints, environment(t, frontEnd, "DEMS_USER", "TORC0001"))
	if status != exitUsage || !strings.Contains(complaints.String(), "too long") {
		t.Errorf("exit status %d: %s", status, complaints.String())
	}
}

// full is a standard output that takes nothing.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestOutputThatCannotBeWritten(t *testing.T) {
	frontEnd := started(t)
	for _, arguments := range [][]string{{"registry"}, {"registry", "-o", "json"}, {"cluster", "status"}} {
		var complaints bytes.Buffer
		status := run(t.Context(), arguments, nil, full{}, &complaints, environment(t, frontEnd))
		if status != exitUsage || !strings.Contains(complaints.String(), "no space left") {
			t.Errorf("%v: exit status %d: %s", arguments, status, complaints.String())
		}
	}
}

func TestWords(t *testing.T) {
	for _, test := range []struct {
		line string
		want []string // nil: an error
	}{
		{"", []string{}},
		{" \t ", []string{}},
		{"a b  c\r", []string{"a", "b", "c"}},
		{`'a b' "c d"`, []string{"a b", "c d"}},
		{`a'b'"c"d`, []string{"abcd"}},
		{`'' ""`, []string{"", ""}},
		{`a\ b "\"" '\'`, []string{"a b", `"`, `\`}},
		{"a #b", []string{"a"}},
		{"a#b '#'", []string{"a#b", "#"}},
		{"# all", []string{}},
		{"é 'ü'", []string{"é", "ü"}},
		{"'a", nil},
		{`"a`, nil},
		{`a\`, nil},
	} {
		words, err := splitWords(test.line)
		if (err != nil) != (test.want == nil) || err == nil && !slices.Equal(words, test.want) {
			t.Errorf("%q: %q, %v, want %q", test.line, words, err, test.want)
		}
	}
}

func FuzzSplitWords(f *testing.F) {
	for _, line := range []string{"", "a b", `'a "b' "c\""`, `\`, "# c", "a\xffb"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := splitWords(line)
		if err != nil || !utf8.ValidString(line) {
			return
		}
		// What was read, quoted, reads the same.
		quoted := make([]string, len(words))
		for i, word := range words {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		again, err := splitWords(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(again, words) {
			t.Errorf("%q: %q, then %q (%v)", line, words, again, err)
		}
	})
}

func TestColumnsLineUpWhateverTheColours(t *testing.T) {
	rows := [][]cell{{{text: "n1"}, {text: "healthy", colour: green}, {text: "7"}}, {{text: "Örebro"}, {text: "down", colour: red}, {text: "12"}}}
	head := []string{"NODE", "STATE", "APPLIED"}
	plain, coloured := page{}, page{colour: true}
	plain.table(head, rows)
	coloured.table(head, rows)
	want := "NODE    STATE    APPLIED\nn1      healthy        7\nÖrebro  down          12\n"
	if plain.String() != want {
		t.Errorf("table:\n%swant:\n%s", plain.String(), want)
	}
	if !strings.Contains(coloured.String(), "\x1b[31mdown\x1b[0m") {
		t.Errorf("no colour in %q", coloured.String())
	}
	stripped := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[0m", "").Replace(coloured.String())
	if stripped != want {
		t.Errorf("without its colours:\n%swant:\n%s", stripped, want)
	}
}

func TestTerminalsAreNotControlledByAnswers(t *testing.T) {
	var text page
	text.table([]string{"A"}, [][]cell{cells("a\x1b[2Jb\r\n")})
	if want := "A\na\uFFFD[2Jb\uFFFD\uFFFD\n"; text.String() != want {
		t.Errorf("printed %q, want %q", text.String(), want)
	}
}

// TestPeopleAreToldAboutRetries: on a terminal, what is waited for is said.
func TestPeopleAreToldAboutRetries(t *testing.T) {
	frontEnd := started(t)
	for _, chatty := range []bool{false, true} {
		frontEnd.Fault(onenode.CutBefore)
		var complaints bytes.Buffer
		p := &program{stdout: io.Discard, stderr: &complaints, lookup: environment(t, frontEnd), chatty: chatty}
		if err := p.execute(t.Context(), newRoot(p), []string{"registry"}); err != nil {
			t.Fatal(err)
		}
		if told := strings.Contains(complaints.String(), "no definite answer"); told != chatty {
			t.Errorf("on a terminal %t: %q", chatty, complaints.String())
		}
	}
}

func TestBenchReportWithoutAnOperation(t *testing.T) {
	var text page
	writeReport(&text, &load.Report{Failures: map[string]uint64{"no_answer": 3, "unavailable": 14}})
	for _, want := range []string{"0 operations", "REFUSED  none", "FAILED       COUNT", "no_answer        3", "unavailable     14"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
}

func TestBenchThatIsStoppedBeforeItBegins(t *testing.T) {
	frontEnd := started(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if status := run(ctx, []string{"bench"}, nil, io.Discard, io.Discard, environment(t, frontEnd)); status != exitUnavailable {
		t.Errorf("exit status %d", status)
	}
}
