//go:build unix

package keyringtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// keepassDatabase exposes its root group, named by its UUID, as a collection.
const keepassDatabase = `<?xml version="1.0" encoding="utf-8" standalone="yes"?>
<KeePassFile><Meta><Generator>apiauth</Generator><DatabaseName>test</DatabaseName>
<CustomData><Item><Key>FDO_SECRETS_EXPOSED_GROUP</Key><Value>{01020304-0506-0708-090a-0b0c0d0e0f10}</Value></Item></CustomData></Meta>
<Root><Group><UUID>AQIDBAUGBwgJCgsMDQ4PEA==</UUID><Name>Root</Name></Group></Root></KeePassFile>
`

// keepassSettings are those of somebody who has allowed all programs to use the
// items, and is not asked.
const keepassSettings = `[General]
ConfigVersion=2
UpdateCheckMessageShown=true

[FdoSecrets]
Enabled=true
ShowNotification=false
ConfirmAccessItem=false
ConfirmDeleteItem=false

[GUI]
CheckForUpdates=false
`

// StartKeePassXC starts the real KeePassXC, without a display, as the Secret
// Service of a session of its own, with a database that is open, and ends it with
// the test. A missing program skips the test, or fails it when APIAUTH_TEST_PEERS
// is "required".
func StartKeePassXC(t testing.TB) *Bus {
	t.Helper()
	program, tool := peer(t, "keepassxc", "keepassxc"), peer(t, "keepassxc-cli", "keepassxc")
	b := StartBus(t)
	path := func(name, content string) string {
		file := filepath.Join(b.Home, name)
		if content != "" {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return file
	}
	env := append(b.Env(), "QT_QPA_PLATFORM=offscreen", "TMPDIR="+b.Runtime)
	database := path("test.kdbx", "")
	create := exec.Command(tool, "import", "--quiet", "--set-password", "--decryption-time", "100", path("test.xml", keepassDatabase), database) //nolint:gosec // a peer of the tests
	create.Env = env
	create.Stdin = strings.NewReader(keychainPass + "\n" + keychainPass + "\n")
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("make a database for KeePassXC: %v\n%s", err, out)
	}
	cmd := exec.Command(program, "--config", path("keepassxc.ini", keepassSettings), "--localconfig", path("local.ini", ""), "--pw-stdin", database) //nolint:gosec // a peer of the tests
	cmd.Env = env
	cmd.Stdin = strings.NewReader(keychainPass + "\n")
	start(t, cmd) // ends by a kill: asked to end, it would ask back
	b.waitForName(t, secretsName)
	b.waitForCollection(t)
	return b
}

// waitForCollection returns when the default collection is there and open. Nobody
// announces that: it is looked for.
func (b *Bus) waitForCollection(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn := b.connect(t)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		var collection dbus.ObjectPath
		err := conn.Object(secretsName, secretsPath).CallWithContext(ctx, "org.freedesktop.Secret.Service.ReadAlias", 0, "default").Store(&collection)
		if err == nil && collection.IsValid() && collection != "/" {
			var locked dbus.Variant
			if err := conn.Object(secretsName, collection).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0,
				"org.freedesktop.Secret.Collection", "Locked").Store(&locked); err == nil && locked.Value() == false {
				return
			}
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("no collection was opened: %v", err)
		}
	}
}
