package proxy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/test/peers"
)

// The TLS libraries that children use take the authority of the run for the
// pinned hosts, and heed its constraints for every other name.
func TestRealTLSLibraries(t *testing.T) {
	r := newEgressRig(t)
	r.serve(apiHost, echoing())
	r.start()
	// Should the proxy ever answer for a host that is not pinned, no child may
	// believe it.
	r.egress.sites[evilHost] = &site{host: evilHost, targets: r.egress.sites[apiHost].targets}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, r.egress.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	const python = `import sys, urllib.request
req = urllib.request.Request(sys.argv[1], headers={"Authorization": sys.argv[2]})
print(urllib.request.urlopen(req).read().decode())`
	header := "Bearer " + testPlaceholder
	for _, tt := range []struct {
		name, program string
		args          []string
	}{
		{"curl, HTTP/2", "curl", []string{"-sS", "--http2", "--cacert", ca, "-H", "Authorization: " + header, "{}"}},
		{"curl, HTTP/1.1", "curl", []string{"-sS", "--http1.1", "--cacert", ca, "-H", "Authorization: " + header, "{}"}},
		{"wget", "wget", []string{"-q", "-t1", "-O", "-", "--ca-certificate", ca, "--header", "Authorization: " + header, "{}"}},
		{"python", "python3", []string{"-c", python, "{}", header}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			program := peers.Program(t, "apt-get install "+strings.TrimSuffix(tt.program, "3"), tt.program)
			run := func(host string) (string, error) {
				args := append([]string(nil), tt.args...)
				for i := range args {
					args[i] = strings.ReplaceAll(args[i], "{}", "https://"+host+"/me")
				}
				cmd := exec.CommandContext(t.Context(), program, args...)
				cmd.Env = []string{"https_proxy=" + r.egress.URL(), "HTTPS_PROXY=" + r.egress.URL(), "SSL_CERT_FILE=" + ca, "HOME=" + t.TempDir()}
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			if out, err := run(apiHost); err != nil || !strings.Contains(out, "Authorization: "+header) {
				t.Errorf("%s: %v\n%s", apiHost, err, out)
			}
			if out, err := run(evilHost); err == nil {
				t.Errorf("%s was believed:\n%s", evilHost, out)
			}
		})
	}
	if !strings.Contains(r.arrived(apiHost), "Bearer "+testToken) {
		t.Error("the token did not arrive")
	}
	r.onlyAt(apiHost)
}
