package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/apiauth/apiauth/internal/secret"
)

// Setting is one environment variable that apiauth reads.
type Setting struct {
	Name string
	Use  string // a sentence for help texts
	Key  string // of config.yaml, or empty
	Flag string // the flag that goes before it, or empty
}

// Environment lists what apiauth reads from the environment, in the order for
// help texts. In a name <ID> stands for a provider's id in capitals, with _ for -.
func Environment() []Setting {
	list := []Setting{
		{Name: "APIAUTH_STORE", Use: "Where grants are kept: keychain or file."},
		{Name: "APIAUTH_PERSONAL", Use: "Use the personal project even inside a project."},
		{Name: "APIAUTH_NO_INPUT", Use: "Never ask; fail and say what was missing."},
		{Name: "APIAUTH_QUIET", Use: "Print nothing but results and errors."},
		{Name: "APIAUTH_DEBUG", Use: "Print what is done; never prints a secret."},
		{Name: "APIAUTH_JSON", Use: "Print data as JSON."},
		{Name: "APIAUTH_CA_FILE", Use: "PEM file of certificates to trust besides the system's; an absolute path."},
		{Name: "APIAUTH_AUDIT", Use: "off: write nothing to the audit log of hand-outs; default on."},
		{Name: "APIAUTH_REMIND_SECRET_AGE", Use: "Age of a client secret at which status and audit remind of it; default 180d, or off."},
		{Name: "APIAUTH_CONFIG_DIR", Use: "Folder of config.yaml and of your provider definitions."},
		{Name: "APIAUTH_STATE_DIR", Use: "Folder of projects, stores and the list of bundles."},
		{Name: "APIAUTH_STORE_KEY", Use: "Key of the file store, made by 'apiauth store key'; also APIAUTH_STORE_KEY_FILE."},
		{Name: "APIAUTH_STORE_PASSPHRASE", Use: "Passphrase of the file store; also APIAUTH_STORE_PASSPHRASE_FILE."},
		{Name: "APIAUTH_STORE_KEY_NEW", Use: "Key that 'apiauth store rekey' gives the file store; also APIAUTH_STORE_KEY_NEW_FILE."},
		{Name: "APIAUTH_STORE_PASSPHRASE_NEW", Use: "Passphrase that it gives the file store; also APIAUTH_STORE_PASSPHRASE_NEW_FILE."},
		{Name: "APIAUTH_CLIENT_ID_<ID>", Use: "Client id for a provider."},
		{Name: "APIAUTH_CLIENT_SECRET_<ID>", Use: "Client secret, or private key, for a provider; also APIAUTH_CLIENT_SECRET_<ID>_FILE."},
		{Name: "APIAUTH_CLIENT_SUBJECT_<ID>", Use: "Whose data a client asks for that signs with its key (jwt-bearer)."},
		{Name: "APIAUTH_CLIENT_ISSUER_<ID>", Use: "Issuer that the client secret is for, where <ID> is not in the catalogue."},
		{Name: "APIAUTH_BUNDLE", Use: "Connections sealed by 'apiauth bundle create', for CI; also APIAUTH_BUNDLE_FILE."},
		{Name: "APIAUTH_BUNDLE_KEY", Use: "The bundle's key; also APIAUTH_BUNDLE_KEY_FILE."},
		{Name: "CI", Use: "Set to true: nobody is asked, and no browser is opened."},
		{Name: "NO_COLOR", Use: "Set to anything: no colours."},
		{Name: "BROWSER", Use: "Browsers to try, separated by colons; %s is the URL."},
		{Name: "HTTPS_PROXY, HTTP_PROXY, NO_PROXY", Use: "Proxy for apiauth's own requests."},
		{Name: "SSL_CERT_FILE, SSL_CERT_DIR", Use: "The system's trusted certificates, where they are not in the usual place."},
		{Name: "XDG_CONFIG_HOME, XDG_STATE_HOME", Use: "Where apiauth's folders are made (not on macOS and Windows)."},
	}
	for i := range list {
		for _, k := range keys() {
			if k.variable() == list[i].Name {
				list[i].Key, list[i].Flag = k.name, k.flag
			}
		}
	}
	return list
}

// maxSecret caps a secret from a file, in bytes.
const maxSecret = 1 << 20

// Secret reads a secret from the variable name, or from the file that name_FILE
// gives; one line end at the end of the file is dropped. ok is false when
// neither is set. Both at once, and an empty or too large (1 MiB) file, are an
// *Error.
func Secret(env Env, name string) (value secret.Text, ok bool, err error) {
	text, path := get(env, name), get(env, name+"_FILE")
	switch {
	case text != "" && path != "":
		return secret.Text{}, false, &Error{name, "and " + name + "_FILE are both set; keep one"}
	case text != "":
		return secret.New(text), true, nil
	case path == "":
		return secret.Text{}, false, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return secret.Text{}, false, fmt.Errorf("read %s_FILE: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return secret.Text{}, false, fmt.Errorf("read %s_FILE: %w", name, err)
	}
	if len(data) > maxSecret {
		return secret.Text{}, false, &Error{name + "_FILE", "names a file that is larger than 1 MiB"}
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if line == "" {
		return secret.Text{}, false, &Error{name + "_FILE", "names an empty file"}
	}
	return secret.New(line), true, nil
}

// Client is a client registration that the environment holds, for CI.
type Client struct {
	ID     string
	Secret secret.Text
	Issuer string // the issuer that the secret is for, or empty
}

// ClientFor reads APIAUTH_CLIENT_ID_<ID>, APIAUTH_CLIENT_SECRET_<ID>(_FILE) and
// APIAUTH_CLIENT_ISSUER_<ID> for a provider's id. ok is false when none of them
// is set. A secret without a client id is left to the caller, who may know the
// id from elsewhere.
func ClientFor(env Env, providerID string) (c Client, ok bool, err error) {
	if providerID == "" || strings.Trim(providerID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return Client{}, false, errors.New("only a provider's id has variables of its own")
	}
	id := strings.ToUpper(strings.ReplaceAll(providerID, "-", "_"))
	c.ID = get(env, "APIAUTH_CLIENT_ID_"+id)
	c.Issuer = get(env, "APIAUTH_CLIENT_ISSUER_"+id)
	c.Secret, ok, err = Secret(env, "APIAUTH_CLIENT_SECRET_"+id)
	if err != nil {
		return Client{}, false, err
	}
	return c, ok || c.ID != "" || c.Issuer != "", nil
}
