package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"dems/client"
)

// emit writes an answer to standard output: as the front end sent it, or as people is told to write it.
func (p *program) emit(body []byte, people func(page *page)) error {
	page := page{colour: p.colour}
	if p.output == "json" {
		page.Write(bytes.TrimRight(body, "\n"))
		page.WriteByte('\n')
	} else {
		people(&page)
	}
	return p.print(page.Bytes())
}

// print writes to standard output with one write.
func (p *program) print(text []byte) error {
	if _, err := p.stdout.Write(text); err != nil {
		return fmt.Errorf("the answer cannot be written to standard output: %w", err)
	}
	return nil
}

// problemDocument returns the problem document of an error: the front end's, or one of the same form.
func problemDocument(failed *client.Error) []byte {
	if failed.Body != nil {
		return bytes.TrimSpace(failed.Body)
	}
	problem := struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status,omitempty"`
		Detail string `json:"detail"`
		Code   string `json:"code"`
		Key    string `json:"idempotencyKey,omitempty"`
		Cause  string `json:"cause,omitempty"`
	}{
		Type: "urn:dems:error:" + failed.Code.String(), Title: failed.Code.Title(), Status: failed.Status,
		Detail: failed.Detail, Code: failed.Code.String(), Key: failed.Key,
	}
	if failed.Err != nil {
		problem.Cause = failed.Err.Error()
	}
	document, err := json.Marshal(problem)
	if err != nil {
		return []byte(`{"code":"internal"}`) // strings always have a JSON form
	}
	return document
}

// page is what people read: lines, and tables whose columns line up.
type page struct {
	bytes.Buffer
	colour bool
}

// line writes one line.
func (p *page) line(format string, arguments ...any) {
	fmt.Fprintf(p, format, arguments...)
	p.WriteByte('\n')
}

// cell is one field of a table. Its colour is an SGR code, "" for none.
type cell struct{ text, colour string }

// The colours of cells.
const (
	green  = "32"
	red    = "31"
	yellow = "33"
)

// columns is the layout of a table, and what pieces of it that are written one after the other have in common.
type columns struct {
	head    []string
	widths  []int  // at least so wide; they grow with what is written
	numeric []bool // stands to the right
	headed  bool   // the head was written
}

// table writes rows under a head. Numbers stand to the right. The colours do not count in the widths.
func (p *page) table(head []string, rows [][]cell) {
	layout := &columns{head: head, widths: make([]int, len(head)), numeric: make([]bool, len(head))}
	for column := range head {
		layout.numeric[column] = len(rows) > 0
		for _, row := range rows {
			layout.numeric[column] = layout.numeric[column] && isNumber(printable(row[column].text))
		}
	}
	p.rows(layout, rows)
}

// rows writes further rows of a table, the first ones under its head.
func (p *page) rows(layout *columns, rows [][]cell) {
	if !layout.headed {
		layout.headed = true
		titles := make([]cell, len(layout.head))
		for column, name := range layout.head {
			titles[column] = cell{text: name}
		}
		rows = append([][]cell{titles}, rows...)
	}
	for _, row := range rows {
		for column, field := range row {
			layout.widths[column] = max(layout.widths[column], utf8.RuneCountInString(printable(field.text)))
		}
	}
	for _, row := range rows {
		for column, field := range row {
			p.field(field, layout.widths[column], layout.numeric[column])
		}
		p.Truncate(len(bytes.TrimRight(p.Bytes(), " ")))
		p.WriteByte('\n')
	}
}

// field writes one cell and the gap after it.
func (p *page) field(field cell, width int, right bool) {
	text := printable(field.text)
	padding := strings.Repeat(" ", width-utf8.RuneCountInString(text))
	if right {
		p.WriteString(padding)
	}
	p.WriteString(p.coloured(field.colour, text))
	if !right {
		p.WriteString(padding)
	}
	p.WriteString("  ")
}

// coloured returns a text in a colour, where there are colours.
func (p *page) coloured(colour, text string) string {
	if !p.colour || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// cells returns fields without colour.
func cells(texts ...any) []cell {
	row := make([]cell, len(texts))
	for i, text := range texts {
		row[i].text = fmt.Sprint(text)
	}
	return row
}

func isNumber(text string) bool {
	for i := range len(text) {
		if (text[i] < '0' || text[i] > '9') && text[i] != '.' {
			return false
		}
	}
	return text != ""
}

// printable replaces what would move the cursor or change the colours of a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
