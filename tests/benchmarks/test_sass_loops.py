"""Inner loops in machine code of GPUs, as `cuobjdump -sass` writes it."""

from benchmarks.sass_loops import hottest, loops, mix, read

SASS = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;                      /* 0x00000a0000017a02 */
        /*0010*/                   LDG.E.128.CONSTANT R4, [R2.64] ;
        /*0020*/                   STS [R9], R4 ;
        /*0030*/              @!P1 BRA 0x10 ;
        /*0040*/                   LDS.128 R12, [R9] ;
        /*0050*/                   LDS.U.128 R16, [R9+0x10] ;
        /*0060*/                   FFMA R0, R12, R16.reuse, R0 ;
        /*0070*/                   FFMA R0, R13, R16, R0 ;
        /*0080*/                   LDS R20, [R9] ;
        /*0090*/               @P0 BRA 0x40 ;
        /*00a0*/                   POPC R3, R0 ;
        /*00b0*/              @!P2 BRA 0x0 ;
        /*00c0*/                   EXIT ;
        /*00d0*/                   BRA 0xd0;
        /*00e0*/                   NOP ;
""".splitlines()


def test_the_loop_with_the_most_arithmetic_is_found_inside_another() -> None:
    code = read(SASS)
    assert len(code) == 15
    assert [len(body) for body in loops(code)] == [12, 3, 6]
    body, is_loop = hottest(code)
    assert is_loop
    assert [each.at for each in body] == [0x40, 0x50, 0x60, 0x70, 0x80, 0x90]
    assert mix(body) == {"FFMA": 2, "FFMA.reuse": 1, "LDS.128": 2, "LDS.32": 1}


def test_a_kernel_without_a_loop_is_taken_whole_to_its_end() -> None:
    code = read([line for line in SASS if "@" not in line])
    body, is_loop = hottest(code)
    assert not is_loop
    assert body[-1].code == "EXIT"
    assert len(body) == 10
