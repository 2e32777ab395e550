package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"pgregory.net/rapid"
)

var pages = flag.String("pages", "", "a folder to write the pages of made-up drills to, to look at them")

// rendered returns a page, and writes it to the folder of -pages.
func rendered(t rapid.TB, name string, report *Report) string {
	t.Helper()
	var page bytes.Buffer
	if err := Page(&page, report); err != nil {
		t.Fatal(err)
	}
	if *pages != "" {
		if err := os.WriteFile(filepath.Join(*pages, name+".html"), page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return page.String()
}

// document is a page as a browser has it.
type document struct {
	t    rapid.TB
	root *html.Node
}

func parse(t rapid.TB, page string) document {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return document{t, root}
}

// all returns the elements that are wanted, in their order.
func (d document) all(wanted func(*html.Node) bool) (found []*html.Node) {
	for node := range d.root.Descendants() {
		if node.Type == html.ElementNode && wanted(node) {
			found = append(found, node)
		}
	}
	return found
}

func (d document) tags(name string) []*html.Node {
	return d.all(func(node *html.Node) bool { return node.Data == name })
}

func (d document) byID(id string) *html.Node {
	d.t.Helper()
	found := d.all(func(node *html.Node) bool { return attribute(node, "id") == id })
	if len(found) != 1 {
		d.t.Fatalf("%d elements have the ID %q", len(found), id)
	}
	return found[0]
}

// rows returns the texts of a table.
func (d document) rows(id string) (rows [][]string) {
	d.t.Helper()
	table := document{d.t, d.byID("table-" + id)}
	for _, row := range table.tags("tr") {
		var texts []string
		for cell := range row.ChildNodes() {
			if cell.DataAtom == atom.Td || cell.DataAtom == atom.Th {
				texts = append(texts, text(cell))
			}
		}
		rows = append(rows, texts)
	}
	return rows
}

func attribute(node *html.Node, name string) string {
	for _, attribute := range node.Attr {
		if attribute.Key == name {
			return attribute.Val
		}
	}
	return ""
}

// text returns all text of a node, each piece once.
func text(node *html.Node) string {
	var pieces []string
	for below := range node.Descendants() {
		if below.Type == html.TextNode && strings.TrimSpace(below.Data) != "" {
			pieces = append(pieces, strings.TrimSpace(below.Data))
		}
	}
	return strings.Join(pieces, " ")
}

// checkPage checks what is true of every page: it is whole, needs nothing else, runs nothing, and what it refers to is there.
func checkPage(t rapid.TB, page string) document {
	t.Helper()
	d := parse(t, page)
	allowed := strings.Fields(`html head meta link title style body header main section div p h1 h2 h3 span ul li dl dt dd code table
		thead tbody tr th td details summary svg g path rect text desc`)
	ids := map[string]bool{}
	for _, node := range d.all(func(*html.Node) bool { return true }) {
		if !slices.Contains(allowed, node.Data) {
			t.Errorf("there is an element %s", node.Data)
		}
		for _, a := range node.Attr {
			switch {
			case strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "style" || a.Key == "action":
				t.Errorf("%s has %s=%q", node.Data, a.Key, a.Val)
			case a.Key == "href" && a.Val != "data:,":
				t.Errorf("%s refers to %q", node.Data, a.Val)
			case a.Key == "id" && ids[a.Val]:
				t.Errorf("%q is the ID of several elements", a.Val)
			case a.Key == "id":
				ids[a.Val] = true
			}
		}
	}
	for _, node := range d.all(func(node *html.Node) bool { return attribute(node, "aria-labelledby") != "" }) {
		for label := range strings.FieldsSeq(attribute(node, "aria-labelledby")) {
			if !ids[label] {
				t.Errorf("%s is labelled by %q, which is not there", node.Data, label)
			}
		}
	}
	for _, table := range d.tags("table") {
		rows := d.rows(strings.TrimPrefix(attribute(table, "id"), "table-"))
		for _, row := range rows {
			if len(row) != len(rows[0]) {
				t.Errorf("a row of %s has %d fields: %q", attribute(table, "id"), len(row), row)
			}
		}
	}
	for _, cell := range d.tags("th") {
		if scope := attribute(cell, "scope"); scope != "col" && scope != "row" {
			t.Errorf("a head cell has scope %q", scope)
		}
	}
	if n := len(d.tags("svg")); n != 1 {
		t.Errorf("there are %d drawings", n)
	}
	for _, outside := range []string{"@import", "url(", "ZgotmplZ"} {
		if strings.Contains(page, outside) {
			t.Errorf("the page has %s", outside)
		}
	}
	if first := d.root.FirstChild; first.Type != html.DoctypeNode || !strings.HasSuffix(page, "</html>\n") {
		t.Errorf("the page is not whole: it begins with %v and ends with %.20q", first.Type, page[max(0, len(page)-20):])
	}
	checkDrawing(t, page)
	return d
}

func TestPageOfAPassedDrill(t *testing.T) {
	report := fake(7)
	if !report.Passed {
		t.Fatalf("the made-up drill has not passed: %q", report.Objections())
	}
	d := checkPage(t, rendered(t, "passed", report))
	header := text(d.tags("header")[0])
	if want := "✓ PASSED Drill all seed 7 Whatever was broken, what has to hold held."; header != want {
		t.Errorf("the header is %q, want %q", header, want)
	}
	if got := text(d.tags("title")[0]); got != "PASSED · drill all · seed 7" {
		t.Errorf("the title is %q", got)
	}
	body := text(d.tags("body")[0])
	for _, want := range []string{
		"Run it again demsctl drill all --seed 7 --duration 1m", "Nodes n1, n2, n3", "Began Sun, 22 Nov 2026 11:35:37 UTC",
		"lost 0 double-applied 0 oversold 0 wrong answers 0 nodes that differ 0 not linearizable 0 undecided 0",
		"tried " + number(report.Operations.Tried), "pause of writes " + took(report.Writes.LongestPauseMS),
		"to repair " + took(report.Total().Repair.MaxMS), "history.jsonl",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	if strings.Contains(body, "Not everything is on this page") || strings.Contains(body, "Notes") {
		t.Error("the page tells of notes or omissions, where there are none")
	}
}

func TestPageOfAFailedDrill(t *testing.T) {
	report := failed(9)
	if report.Passed {
		t.Fatal("the made-up drill has passed")
	}
	d := checkPage(t, rendered(t, "failed", report))
	header := text(d.tags("header")[0])
	if want := "✗ FAILED Drill all seed 9 oversold: 2 times not linearizable: 1 of 32 histories undecided: 1 of 32 histories"; header != want {
		t.Errorf("the header is %q, want %q", header, want)
	}
	if notes := text(d.byID("notes").Parent); !strings.Contains(notes, "Interrupted after 60 s") {
		t.Errorf("the notes are %q", notes)
	}
	rows := d.rows("invariants")
	if want := []string{
		"oversold", "No event has more bookings than seats. " + strings.Join(report.Invariants[2].Examples, " "), "2",
	}; !slices.Equal(rows[3], want) {
		t.Errorf("the row of the broken invariant is %q", rows[3])
	}
	if last := d.rows("rounds")[7]; last[7] != "not ended" {
		t.Errorf("the row of the round that did not end is %q", last)
	}
	if row := d.rows("scenarios")[1]; row[0] != "leader-kill" || row[1] != "3 1 not ended" {
		t.Errorf("the summary of the round that did not end is %q", row)
	}
}

// TestPageNeverSaysPassedInSpiteOfObjections gives reports that contradict themselves.
func TestPageNeverSaysPassedInSpiteOfObjections(t *testing.T) {
	broken, undecided := fake(1), fake(1)
	broken.Invariants[0].Broken = 1
	undecided.Passed = false
	for name, report := range map[string]*Report{"broken, but passed": broken, "nothing, but failed": undecided, "empty": {Passed: true}} {
		if header := text(checkPage(t, rendered(t, "contradiction", report)).tags("header")[0]); !strings.Contains(header, "FAILED") {
			t.Errorf("%s: the header is %q", name, header)
		}
	}
}

func TestTablesShowWhatTheReportHas(t *testing.T) {
	d := checkPage(t, rendered(t, "full", full()))
	for id, want := range map[string][][]string{
		"latency": {
			{"kind", "tried", "answered", "p50", "p99", "p99.9", "slowest", "longest pause"},
			{"writes", "60", "58", "3.00 ms", "40.0 ms", "300 ms", "812 ms", "800 ms"},
			{"reads", "40", "39", "1.00 ms", "4.00 ms", "100 ms", "150 ms", "120 ms"},
		},
		"scenarios": {
			{"scenario", "rounds", "to elect", "to convict", "to repair", "pause of writes", "pause of reads", "unanswered"},
			{"leader-kill", "1", "300 ms", "1.20 s", "4.50 s", "800 ms", "120 ms", "3"},
		},
		"rounds": {
			{
				"no.", "at", "scenario", "what", "to elect", "to convict", "to repair", "until all is well", "pause of writes",
				"pause of reads", "slowest write", "slowest read", "unanswered",
			},
			{
				"1", "0:02.0", "leader-kill 1", "killed the leader n2", "300 ms", "1.20 s", "4.50 s", "4.50 s", "800 ms", "120 ms",
				"812 ms", "150 ms", "3",
			},
		},
		"incidents": {
			{"at", "sequence", "kind", "node", "by", "detail", "round"},
			{"0:02.5", "17", "suspicion", "n2", "n1", "n2 does not answer", "1"},
		},
		"leaders": {{"from", "to", "leader", "term", "for"}, {"0:00.1", "0:02.0", "n2", "3", "1.90 s"}},
		"invariants": {
			{"invariant", "meaning", "broken"},
			{"lost", "What was acknowledged is still there at the end. booking of MTLC0001", "1"},
			{
				"linearizable", "Each history of a group of events and customers has an order that explains all its answers. " +
					"4 histories with 100 operations checked in 500 ms. group 3", "1",
			},
			{"decided", "The check for linearizability came to an end in the time that it had.", "1"},
		},
	} {
		if got := d.rows(id); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%q, want\n%q", id, got, want)
		}
	}
}

// hostile are texts that want to be more than text.
var hostile = []string{
	`</title></text></svg></style><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onload='alert(1)`, `--><!--`, `]]>`,
	`{{.Seed}}`, `javascript:alert(1)`, `&lt;&#0;&amp`, "\x00\x1b[2J\x7f\u0085", "\u202eevil\u2066", "\xff\xfe<",
	`</textarea><plaintext>`, strings.Repeat("<", 10_000), "\ufffe\uffff", `<foreignObject>`, `\u003c/script>`,
}

// fill puts texts into every string of a value.
func fill(v reflect.Value, next func() string) {
	switch v.Kind() {
	case reflect.Pointer:
		fill(v.Elem(), next)
	case reflect.String:
		v.SetString(next())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), next)
		}
	case reflect.Slice:
		for i := range v.Len() {
			fill(v.Index(i), next)
		}
	}
}

func TestTextsStayTexts(t *testing.T) {
	for start, first := range hostile {
		reports := []*Report{full()}
		if start%5 == 0 {
			reports = append(reports, failed(2))
		}
		for _, report := range reports {
			i := start
			fill(reflect.ValueOf(report), func() string { i++; return hostile[(i-1)%len(hostile)] })
			report.Scenario = first
			report.Notes = append(report.Notes, hostile...)
			d := checkPage(t, rendered(t, "hostile", report))
			notes := document{t, d.byID("notes").Parent}.tags("li")
			for j, text := range hostile {
				shown := notes[len(report.Notes)-len(hostile)+j]
				if shown.FirstChild.Data != plain(text) || shown.FirstChild.NextSibling != nil {
					t.Errorf("%q is shown as %q", text, shown.FirstChild.Data)
				}
			}
		}
	}
}

// TestPageIsBounded makes a page of far more than anybody reads.
func TestPageIsBounded(t *testing.T) {
	report := fake(3)
	for i := range 5000 {
		at := float64(i) * 60 / 5000
		report.Rounds = append(report.Rounds, report.Rounds[i%7])
		report.Rounds[len(report.Rounds)-1].Scenario = fmt.Sprintf("scenario %d", i%300)
		report.Incidents = append(report.Incidents, Incident{At: at, Kind: fmt.Sprintf("kind %d", i), Detail: strings.Repeat("x", 1000)})
		report.Leaders = append(report.Leaders, Leader{Node: fmt.Sprintf("n%d", i), From: at, To: at + 0.01})
		report.Slices = append(report.Slices, report.Slices[i%600])
		report.Invariants = append(report.Invariants, Invariant{Examples: slices.Repeat([]string{"example"}, 100)})
		report.Nodes, report.Kept, report.Notes = append(report.Nodes, "n"), append(report.Kept, "k"), append(report.Notes, "note")
	}
	page := rendered(t, "bounded", report)
	d := checkPage(t, page)
	if len(page) > 5<<20 {
		t.Errorf("the page has %d bytes", len(page))
	}
	for id, want := range map[string]int{
		"rounds": mostRounds + 1, "incidents": mostIncidents + 1, "leaders": mostLeaders + 1, "scenarios": mostScenarios + 2,
		"invariants": mostOthers + 3,
	} {
		if got := len(d.rows(id)); got != want {
			t.Errorf("%s has %d rows, want %d", id, got, want)
		}
	}
	omitted := text(d.byID("timeline").Parent)
	for _, want := range []string{
		"the JSON form of the report has it all", "Of 5,007 rounds the first 2,000 are shown.", "incidents the first 1,000 are shown.",
		"Of 5,600 slices of the timeline the first 600 are shown.", "Of 5,006 files the first 100 are shown.",
	} {
		if !strings.Contains(omitted, want) {
			t.Errorf("the page does not say %q, but %q", want, omitted[max(0, len(omitted)-800):])
		}
	}
}

func TestPageIsTheSameEachTime(t *testing.T) {
	report := failed(4)
	before, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	if one, another := rendered(t, "same", report), rendered(t, "same", report); one != another {
		t.Error("two pages of one report differ")
	}
	if after := encode(t, report); !bytes.Equal(before, after) {
		t.Error("making a page changes the report")
	}
}

// fullDisk takes nothing.
type fullDisk struct{ tried int }

var errFull = errors.New("the disk is full")

func (d *fullDisk) Write(p []byte) (int, error) {
	d.tried += len(p)
	return 0, errFull
}

func TestPagePassesFailuresOn(t *testing.T) {
	if err := Page(&fullDisk{}, fake(1)); !errors.Is(err, errFull) {
		t.Errorf("error %v", err)
	}
}

// TestColoursCanBeRead computes the contrast of what stands on what, in light and dark and on paper.
func TestColoursCanBeRead(t *testing.T) {
	palettes := regexp.MustCompile(`:root \{([^}]*)\}`).FindAllStringSubmatch(string(pageStyle), -1)
	if len(palettes) != 3 {
		t.Fatalf("there are %d palettes", len(palettes))
	}
	for i, palette := range palettes {
		colours := map[string]float64{}
		for _, colour := range regexp.MustCompile(`--([a-z0-9-]+): #([0-9a-f]{6})`).FindAllStringSubmatch(palette[1], -1) {
			colours[colour[1]] = luminance(t, colour[2])
		}
		contrast := func(front, back string, least float64) {
			a, aThere := colours[front]
			b, bThere := colours[back]
			if got := (max(a, b) + 0.05) / (min(a, b) + 0.05); !aThere || !bThere || got < least {
				t.Errorf("palette %d: %s on %s has a contrast of %.2f, want %v", i, front, back, got, least)
			}
		}
		for _, back := range []string{"paper", "ground"} {
			for _, letters := range []string{"ink", "soft", "good", "bad", "wary"} {
				contrast(letters, back, 4.5)
			}
			for _, form := range []string{"writes", "reads", "failed", "p50", "p99", "good", "bad", "wary", "soft"} {
				contrast(form, back, 3)
			}
		}
		for _, tone := range []string{"good", "bad"} {
			contrast(tone, tone+"-ground", 4.5)
			contrast("ink", tone+"-ground", 4.5)
		}
		for node := range 6 {
			contrast("ink", fmt.Sprintf("node%d", node), 4.5)
		}
		contrast("writes", "reads", 2)
	}
}

// luminance is the relative luminance of a colour, as WCAG defines it.
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	rgb, err := strconv.ParseUint(colour, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		part := float64(rgb>>(16-8*i)&0xff) / 255
		if part <= 0.04045 {
			part /= 12.92
		} else {
			part = math.Pow((part+0.055)/1.055, 2.4)
		}
		sum += weight * part
	}
	return sum
}
