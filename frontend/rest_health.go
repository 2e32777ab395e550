package frontend

import (
	"context"
	_ "embed"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// openAPIDocument describes everything that is served.
//
//go:embed openapi.json
var openAPIDocument []byte

// openAPI serves the description of the interface.
func (h *restHandler) openAPI(_ context.Context, x *exchange) error {
	x.header["Content-Type"] = jsonContentType
	x.output = append(x.output, openAPIDocument...)
	return nil
}

// live says that the process answers.
func (h *restHandler) live(_ context.Context, x *exchange) error {
	x.header["Content-Type"] = textContentType
	x.output = append(x.output, "ok"...)
	return nil
}

// ready says whether a majority answers. The checks are listed when it does not, or on request.
func (h *restHandler) ready(ctx context.Context, x *exchange) error {
	verbose := x.given != 0
	if verbose && x.query[0] != "" && x.query[0] != "true" && x.query[0] != "1" {
		return malformed("verbose takes no value, or true.")
	}
	failed := false
	for _, check := range h.cluster.Checks(ctx) {
		if check.Err == nil {
			x.output = append(x.output, "[+]"+check.Name+" ok\n"...)
			continue
		}
		failed = true
		x.output = append(x.output, "[-]"+check.Name+" failed: "+oneLine(check.Err.Error())+"\n"...)
	}
	x.header["Content-Type"] = textContentType
	x.header["Cache-Control"] = noStore
	switch {
	case failed:
		x.status = http.StatusServiceUnavailable
		x.header["Retry-After"] = retryAfter
		x.output = append(x.output, "readyz check failed\n"...)
	case verbose:
		x.output = append(x.output, "readyz check passed\n"...)
	default:
		x.output = append(x.output[:0], "ok"...)
	}
	return nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// showMetrics serves the metrics of the registry.
func (h *restHandler) showMetrics(_ context.Context, x *exchange) error {
	promhttp.HandlerFor(h.config.Registry, promhttp.HandlerOpts{DisableCompression: true}).ServeHTTP(x, x.request)
	return nil
}
