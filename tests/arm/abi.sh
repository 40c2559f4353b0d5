# What differs between Debian's three ARM ABIs, and RISC-V. Sourced: `. abi.sh arm64|armhf|armel|riscv64`.
# cpus: each processor that qemu shall be, and the instruction set that tinyrnn must choose on it. The first has
# every instruction set of the ABI.
# release: the Debian of the sysroot where it is not the host's.
arch=${1:?arm64, armhf, armel or riscv64}
qemu=qemu-arm
flags= release=
case $arch in
    arm64)
        triple=aarch64-linux-gnu platform=linux-aarch64 qemu=qemu-aarch64
        cpus=(cortex-a76=neon_dot cortex-a53=neon cortex-a72=neon) # Raspberry Pi 5, 3, 4
        ;;
    armhf)
        triple=arm-linux-gnueabihf platform=linux-armv7l
        cpus=(cortex-a7=neon) # Raspberry Pi 2
        ;;
    armel) # Debian's armhf begins at ARMv7; ARMv6 code runs with the C library of its soft-float ABI
        triple=arm-linux-gnueabi platform=linux-armv6l
        flags="-marm -march=armv6 -mfpu=vfp -mfloat-abi=softfp"
        cpus=(arm1176=scalar) # Raspberry Pi 1 and Zero
        ;;
    riscv64) # a release architecture of Debian from 13 on
        triple=riscv64-linux-gnu platform=linux-riscv64 qemu=qemu-riscv64 release=trixie
        cpus=(rv64=scalar_fma)
        ;;
    *) echo "$arch: expected arm64, armhf, armel or riscv64" >&2 && exit 1 ;;
esac
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(realpath -m "${TINYRNN_ARM:-$top/build/arm}")
root=$work/root-$arch
