#!/usr/bin/env bash
# sysroot.sh ARCH: Debian's Python, NumPy and pytest of another architecture, unpacked and never installed,
# below $work/root-ARCH, and $work/python-ARCH, which runs them under qemu as the processor that ARM_CPU
# names. The host's own package state is not touched. What is there already is kept.
set -euo pipefail
. "$(dirname "$0")/abi.sh" "$@"
[ -e "$root/complete" ] && exit
command -v "$qemu" >/dev/null || { echo "$qemu is missing: apt-get install qemu-user" >&2; exit 1; }

rm -rf "$root"
apt=$work/apt-$arch
mkdir -p "$root" "$apt"/state/lists/partial "$apt"/cache/archives/partial
: >"$apt/status"
cat >"$apt/conf" <<END
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Debug::NoLocking "true";
END
if [ "$release" ]; then # the host's own sources, with that release's name in place of their own
    . /etc/os-release
    mkdir -p "$apt/sources"
    cp /etc/apt/sources.list.d/debian.sources "$apt/sources/"
    sed -i "s/\b$VERSION_CODENAME\b/$release/g" "$apt/sources/debian.sources"
    printf 'Dir::Etc::SourceList "/dev/null";\nDir::Etc::SourceParts "%s";\n' "$apt/sources" >>"$apt/conf"
fi
export APT_CONFIG=$apt/conf
# apt fails when one of the indexes is in the middle of an update; the others are enough.
apt-get -q update >"$apt/log" 2>&1 || tail -n 5 "$apt/log" >&2
apt-get -qy --download-only install python3 python3-numpy python3-pytest libpython3-dev >>"$apt/log" 2>&1 ||
    { tail -n 20 "$apt/log" >&2; exit 1; }

for folder in bin sbin lib; do # merged /usr, so that what lies in /lib lands in /usr/lib
    mkdir -p "$root/usr/$folder"
    ln -s "usr/$folder" "$root/$folder"
done
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -C "$root" --keep-directory-symlink -xf -
done
# What an installation would have linked: BLAS and LAPACK. And absolute links would lead to the host.
for library in blas/libblas.so.3 lapack/liblapack.so.3; do
    ln -s "$library" "$root/usr/lib/$triple/"
done
find "$root" -lname '/*' -printf '%p\t%l\n' | while IFS=$'\t' read -r link target; do
    ln -sfn "$(realpath -ms --relative-to="$(dirname "$link")" "$root$target")" "$link"
done

# Python starts Python: sys.executable has to be something that the host can run.
python=$(readlink "$root/usr/bin/python3")
cat >"$work/python-$arch" <<END
#!/bin/sh
exec $qemu -L "$root" \${ARM_CPU:+-cpu "\$ARM_CPU"} "$root/usr/bin/$python" "\$@"
END
chmod +x "$work/python-$arch"
echo "import sys; sys.executable = '$work/python-$arch'; sys.path.insert(0, '$work/site-$arch')" \
    >"$root/usr/lib/python3/dist-packages/emulated.pth"
rm -rf "$apt"
touch "$root/complete"
