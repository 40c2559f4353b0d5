/* A plugin of QEMU that counts the instructions which the guest executes, all of them, exactly.
 *
 *     gcc -O2 -shared -fPIC qcount.c -o qcount.so
 *     qemu-aarch64 -plugin ./qcount.so PROGRAM        "qcount: N" on stderr at the end
 *
 * Debian's qemu-user takes plugins (its qemu-user-static does not) but comes without qemu-plugin.h, so the
 * few declarations that are needed stand here: version 1 of the interface, QEMU 4.2 to 8.x. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *at, uint64_t number);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
enum { INLINE_ADD_U64 = 0 };

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;

static uint64_t executed;

/* Once for every block of instructions that is translated: add its length whenever it runs. */
static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, &executed, qemu_plugin_tb_n_insns(block));
}

static void finished(plugin_id id, void *unused)
{
    (void)id, (void)unused;
    fprintf(stderr, "qcount: %" PRIu64 "\n", executed);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
