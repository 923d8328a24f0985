/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The part of QEMU's TCG plugin interface (version 1, QEMU 4.2 to 8.x) that
 * the plugins use. Debian packages QEMU without its plugin header; these
 * declarations follow the published description of the interface.
 */
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

using qemu_plugin_id_t = uint64_t;
using qemu_plugin_meminfo_t = uint32_t;

struct qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_W = 2, QEMU_PLUGIN_MEM_RW = 3 };

using qemu_plugin_tb_cb = void (*)(qemu_plugin_id_t, qemu_plugin_tb *);
using qemu_plugin_insn_cb = void (*)(unsigned int vcpu, void *data);
using qemu_plugin_mem_cb = void (*)(unsigned int vcpu, qemu_plugin_meminfo_t, uint64_t vaddr,
				    void *data);

bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);
unsigned int qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t);
int qemu_plugin_n_max_vcpus();
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, qemu_plugin_tb_cb);
size_t qemu_plugin_tb_n_insns(const qemu_plugin_tb *);
qemu_plugin_insn *qemu_plugin_tb_get_insn(const qemu_plugin_tb *, size_t index);
uint64_t qemu_plugin_insn_vaddr(const qemu_plugin_insn *);
const void *qemu_plugin_insn_data(const qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const qemu_plugin_insn *);
void qemu_plugin_register_vcpu_insn_exec_cb(qemu_plugin_insn *, qemu_plugin_insn_cb,
					    qemu_plugin_cb_flags, void *data);
void qemu_plugin_register_vcpu_mem_cb(qemu_plugin_insn *, qemu_plugin_mem_cb, qemu_plugin_cb_flags,
				      qemu_plugin_mem_rw, void *data);

[[gnu::visibility("default")]] extern int qemu_plugin_version;
[[gnu::visibility("default")]] int qemu_plugin_install(qemu_plugin_id_t, const qemu_info_t *,
						       int argc, char **argv);
}
